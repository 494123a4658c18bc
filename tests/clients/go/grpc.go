package main

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	// Also makes grpc-go accept gzip.
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	pingv1 "pingpipeline.io/clients/gen/ping/v1"
)

// RoundTrip's counterpart for grpc-go.
func (last *lastResponse) HandleRPC(_ context.Context, event stats.RPCStats) {
	if header, ok := event.(*stats.InHeader); ok {
		last.Lock()
		defer last.Unlock()
		last.compression = header.Compression
	}
}

func (*lastResponse) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*lastResponse) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*lastResponse) HandleConn(context.Context, stats.ConnStats)                       {}

func grpcClient(server, admin string) *client {
	open := func(compression string) *api {
		last := new(lastResponse)
		options := []grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithStatsHandler(last),
		}
		if compression != "" {
			options = append(options, grpc.WithDefaultCallOptions(grpc.UseCompressor(compression)))
		}
		connection := must(grpc.NewClient(strings.TrimPrefix(server, "http://"), options...))
		adminConnection := must(grpc.NewClient(strings.TrimPrefix(admin, "http://"), options...))
		pings := pingv1.NewPingServiceClient(connection)
		return &api{
			ping:        grpcCall(pings.Ping),
			pingCount:   grpcCall(pings.PingCount),
			recordBatch: grpcCall(pingv1.NewEventServiceClient(connection).RecordBatch),
			series:      grpcCall(pingv1.NewSourceServiceClient(connection).Series),
			verify:      grpcCall(pingv1.NewAdminServiceClient(adminConnection).Verify),
			unknown: func(ctx context.Context, request *pingv1.PingRequest) (*pingv1.PingResponse, error) {
				response := new(pingv1.PingResponse)
				return response, connection.Invoke(ctx, "/ping.v1.PingService/Pong", request, response)
			},
			streamPings: func(ctx context.Context) (pingStream, error) {
				stream, err := pings.StreamPings(ctx)
				if err != nil {
					return pingStream{}, err
				}
				return pingStream{stream.Send, stream.Recv, stream.CloseSend}, nil
			},
			last:    last,
			code:    func(err error) string { return connect.Code(status.Code(err)).String() },
			details: grpcDetails,
		}
	}
	return &client{
		name: "grpc-go", open: open, compressions: []string{"gzip"}, response: "gzip", multiplexes: true,
	}
}

func grpcCall[Q, A any](method func(context.Context, *Q, ...grpc.CallOption) (*A, error)) call[Q, A] {
	return func(ctx context.Context, request *Q) (*A, error) { return method(ctx, request) }
}

func grpcDetails(err error) []proto.Message {
	var details []proto.Message
	for _, detail := range status.Convert(err).Details() {
		if message, ok := detail.(proto.Message); ok {
			details = append(details, message)
		}
	}
	return details
}
