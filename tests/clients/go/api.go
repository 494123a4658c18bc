package main

import (
	"context"

	"google.golang.org/protobuf/proto"
	pingv1 "pingpipeline.io/clients/gen/ping/v1"
)

// call is a unary method of any client.
type call[Q, A any] func(context.Context, *Q) (*A, error)

// api is the part of the API that the cases use, in the form that all clients can have.
type api struct {
	ping        call[pingv1.PingRequest, pingv1.PingResponse]
	pingCount   call[pingv1.PingCountRequest, pingv1.PingCountResponse]
	recordBatch call[pingv1.RecordBatchRequest, pingv1.RecordBatchResponse]
	series      call[pingv1.SeriesRequest, pingv1.SeriesResponse]
	verify      call[pingv1.VerifyRequest, pingv1.VerifyResponse]
	unknown     call[pingv1.PingRequest, pingv1.PingResponse]
	streamPings func(context.Context) (pingStream, error)
	// The last response.
	last *lastResponse
	// The code of an error, with Connect's names, and its details.
	code    func(error) string
	details func(error) []proto.Message
}

// pingStream is a StreamPings call.
type pingStream struct {
	send      func(*pingv1.StreamPingsRequest) error
	receive   func() (*pingv1.StreamPingsResponse, error)
	closeSend func() error
}

// client is one client under test.
type client struct {
	name string
	// open returns an api that sends with a compression: "" for the client's default.
	open func(compression string) *api
	// What it can send.
	compressions []string
	// What its responses are compressed with by default, if they are large.
	response string
	// Whether its calls share a connection.
	multiplexes bool
	// How it refuses streams in both directions, "" if it supports them.
	refusesStreams string
	// An api that sends queries by GET, if it can.
	openGet func() *api
}
