package main

import (
	"context"
	"errors"
	"io"
	"time"

	pingv1 "pingpipeline.io/clients/gen/ping/v1"
)

// batchOf returns a batch of new events.
func batchOf(run *run, events int) *pingv1.RecordBatchRequest {
	request := &pingv1.RecordBatchRequest{}
	for offset := range events {
		event := &pingv1.RecordRequest{TimestampMs: run.start + int64(offset)%rangeMs, Source: run.source}
		request.Events = append(request.Events, event)
	}
	return request
}

func batch(run *run) {
	request := batchOf(run, 3)
	request.Events[1].TimestampMs = -1
	answer := must(run.recordBatch(run.ctx, request))
	want("accepted", answer.Accepted, 2)
	want("refused", len(answer.Refused), 1)
	want("index", answer.Refused[0].Index, 1)
	want("code", answer.Refused[0].Code, "invalid_argument")
	want("count", run.count(), 2)
}

func compressedResponses(run *run) {
	minute := time.Minute.Milliseconds()
	now := time.Now().UnixMilli() / minute * minute
	request := &pingv1.SeriesRequest{
		TimeRange: &pingv1.TimeRange{Start: now - 1000*minute, End: now},
		Step:      pingv1.Step_STEP_MINUTE,
	}
	want("points", len(must(run.series(run.ctx, request)).Points), 1000)
	want("compression", run.last.compression, run.client.response)
}

func compressedRequests(run *run) {
	var expected int64
	for _, compression := range run.client.compressions {
		run.api = run.client.open(compression)
		answer := must(run.recordBatch(run.ctx, batchOf(run, 500)))
		want("accepted", answer.Accepted, 500)
		expected += 500
		want("count", run.count(), expected)
		// An error is as readable as without compression.
		_, err := run.ping(run.ctx, &pingv1.PingRequest{TimestampMs: -1})
		run.wantCode(err, "invalid_argument")
	}
}

func get(run *run) {
	run.api = run.client.openGet()
	must(run.ping(run.ctx, run.event(0)))
	want("method of Ping", run.last.method, "POST")
	want("count", run.count(), 1)
	want("method of PingCount", run.last.method, "GET")
	_, err := run.pingCount(run.ctx, &pingv1.PingCountRequest{After: "yesterday"})
	run.wantCode(err, "invalid_argument")
	want("method of PingCount", run.last.method, "GET")
}

// streamBatch returns a batch of three new events and one that is refused.
func streamBatch(run *run) *pingv1.StreamPingsRequest {
	pings := []*pingv1.PingRequest{run.event(0), run.event(1), {TimestampMs: -1}, run.event(2)}
	return &pingv1.StreamPingsRequest{Pings: pings}
}

func wantAcknowledged(answer *pingv1.StreamPingsResponse, batches int64) {
	want("batches", answer.Batches, batches)
	want("accepted", answer.Accepted, 3)
	want("refused", len(answer.Refused), 1)
	want("index", answer.Refused[0].Index, 2)
}

func stream(run *run) {
	for _, compression := range append([]string{""}, run.client.compressions...) {
		run.api = run.client.open(compression)
		stream := must(run.streamPings(run.ctx))
		// Each batch is acknowledged while the stream is open.
		for batch := int64(1); batch <= 3; batch++ {
			must(0, stream.send(streamBatch(run)))
			wantAcknowledged(must(stream.receive()), batch)
		}
		// And many may be sent without waiting.
		for range 20 {
			must(0, stream.send(streamBatch(run)))
		}
		must(0, stream.closeSend())
		for batch := int64(4); batch <= 23; batch++ {
			wantAcknowledged(must(stream.receive()), batch)
		}
		_, err := stream.receive()
		want("the end of the stream", errors.Is(err, io.EOF), true)
	}
	want("count", run.count(), 23*3*int64(1+len(run.client.compressions)))
}

// streamDeadline lets a stream run into its deadline; what it acknowledged is recorded. A slow machine acknowledges nothing in time.
func streamDeadline(run *run) {
	ctx, cancel := context.WithTimeout(run.ctx, 700*time.Millisecond)
	defer cancel()
	started := time.Now()
	stream := must(run.streamPings(ctx))
	must(0, stream.send(streamBatch(run)))
	acknowledged := int64(0)
	answer, err := stream.receive()
	if err == nil {
		acknowledged = answer.Accepted
		wantAcknowledged(answer, 1)
		_, err = stream.receive()
	}
	run.wantCode(err, "deadline_exceeded")
	want("in time", time.Since(started) < slow, true)
	want("at least what was acknowledged", run.count() >= acknowledged, true)
}

// refusedStream has a readable error where neither side can stream in both directions.
func refusedStream(run *run) {
	ctx, cancel := context.WithTimeout(run.ctx, slow)
	defer cancel()
	stream := must(run.streamPings(ctx))
	sent := stream.send(streamBatch(run))
	must(0, stream.closeSend())
	_, err := stream.receive()
	if sent != nil && !errors.Is(sent, io.EOF) {
		err = sent
	}
	run.wantCode(err, run.client.refusesStreams)
}
