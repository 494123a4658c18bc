package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	pingv1 "pingpipeline.io/clients/gen/ping/v1"
	"pingpipeline.io/clients/gen/ping/v1/pingv1connect"
)

// lastResponse is how the last call went over the wire.
type lastResponse struct {
	sync.Mutex
	method, compression string
}

// recorder notes how calls go over the wire.
type recorder struct {
	http.RoundTripper
	last *lastResponse
}

func (recorder *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := recorder.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	recorder.last.Lock()
	defer recorder.last.Unlock()
	recorder.last.method, recorder.last.compression = request.Method, ""
	for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
		if value := response.Header.Get(name); value != "" && value != "identity" {
			recorder.last.compression = value
		}
	}
	return response, nil
}

// connectClients are connect-go's three protocols. Connect and gRPC-Web use what Go does by default without TLS, HTTP/1.1, and h2c.
func connectClients(server, admin string) []*client {
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	http2 := &http.Transport{Protocols: h2c}
	var clients []*client
	for _, kind := range []struct {
		name      string
		transport http.RoundTripper
		option    connect.ClientOption
	}{
		{"connect-go Connect HTTP/1.1", http.DefaultTransport, nil},
		{"connect-go Connect JSON HTTP/1.1", http.DefaultTransport, connect.WithProtoJSON()},
		{"connect-go Connect h2c", http2, nil},
		{"connect-go gRPC h2c", http2, connect.WithGRPC()},
		{"connect-go gRPC-Web HTTP/1.1", http.DefaultTransport, connect.WithGRPCWeb()},
		{"connect-go gRPC-Web h2c", http2, connect.WithGRPCWeb()},
	} {
		var options []connect.ClientOption
		if kind.option != nil {
			options = append(options, kind.option)
		}
		open := func(more ...connect.ClientOption) *api {
			all := append(append([]connect.ClientOption{}, options...), more...)
			return connectAPI(kind.transport, server, admin, connect.WithClientOptions(all...))
		}
		client := &client{name: kind.name, compressions: []string{"gzip", "zstd"}, response: "gzip"}
		client.open = func(compression string) *api {
			switch compression {
			case "":
				return open()
			case "zstd":
				return open(acceptZstd(), connect.WithSendCompression("zstd"))
			default:
				return open(connect.WithSendCompression(compression))
			}
		}
		if strings.Contains(kind.name, " Connect ") {
			client.openGet = func() *api { return open(connect.WithHTTPGet()) }
		}
		if kind.transport == http.DefaultTransport {
			client.refusesStreams = "unimplemented"
		} else {
			client.multiplexes = true
		}
		clients = append(clients, client)
	}
	return clients
}

func connectAPI(transport http.RoundTripper, server, admin string, options connect.ClientOption) *api {
	last := new(lastResponse)
	http := &http.Client{Transport: &recorder{transport, last}}
	pings := pingv1connect.NewPingServiceClient(http, server, options)
	events := pingv1connect.NewEventServiceClient(http, server, options)
	sources := pingv1connect.NewSourceServiceClient(http, server, options)
	verifier := pingv1connect.NewAdminServiceClient(http, admin, options)
	unknown := connect.NewClient[pingv1.PingRequest, pingv1.PingResponse](http, server+"/ping.v1.PingService/Pong", options)
	return &api{
		ping:        connectCall(pings.Ping),
		pingCount:   connectCall(pings.PingCount),
		recordBatch: connectCall(events.RecordBatch),
		series:      connectCall(sources.Series),
		verify:      connectCall(verifier.Verify),
		unknown:     connectCall(unknown.CallUnary),
		streamPings: func(ctx context.Context) (pingStream, error) {
			stream := pings.StreamPings(ctx)
			return pingStream{stream.Send, stream.Receive, stream.CloseRequest}, nil
		},
		last:    last,
		code:    func(err error) string { return connect.CodeOf(err).String() },
		details: connectDetails,
	}
}

func connectCall[Q, A any](method func(context.Context, *connect.Request[Q]) (*connect.Response[A], error)) call[Q, A] {
	return func(ctx context.Context, request *Q) (*A, error) {
		response, err := method(ctx, connect.NewRequest(request))
		if err != nil {
			return nil, err
		}
		return response.Msg, nil
	}
}

func connectDetails(err error) []proto.Message {
	var details []proto.Message
	var failed *connect.Error
	if errors.As(err, &failed) {
		for _, detail := range failed.Details() {
			details = append(details, must(detail.Value()))
		}
	}
	return details
}
