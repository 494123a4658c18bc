package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	pingv1 "pingpipeline.io/clients/gen/ping/v1"
)

// cases are in the order in which they run.
var cases = []struct {
	name    string
	check   func(*run)
	applies func(*client) bool
}{
	{"unary", unary, nil},
	{"a count of 0", zero, nil},
	{"invalid input", invalidInput, nil},
	{"far too large", farTooLarge, nil},
	{"unknown method", unknownMethod, nil},
	{"retry", retry, nil},
	{"deadline", deadline, nil},
	{"cancellation", cancellation, nil},
	{"many cancellations", manyCancellations, func(client *client) bool { return client.multiplexes }},
	{"batch", batch, nil},
	{"compressed responses", compressedResponses, nil},
	{"compressed requests", compressedRequests, nil},
	{"GET", get, func(client *client) bool { return client.openGet != nil }},
	{"stream", stream, func(client *client) bool { return client.refusesStreams == "" }},
	{"stream under a deadline", streamDeadline, func(client *client) bool { return client.refusesStreams == "" }},
	{"refused stream", refusedStream, func(client *client) bool { return client.refusesStreams != "" }},
	{"verify", verify, nil},
}

const (
	// neverCounted is a token of a writer that does not exist.
	neverCounted = "999.0.1"
	// slow is longer than any call should take, even on a busy machine, and shorter than the server waits for a token.
	slow = 8 * time.Second
	// rangeMs is the length of a run's time range.
	rangeMs = 1000
)

// run is one case on one client, with a time range and a source of its own, so that its counts are exact.
type run struct {
	*api
	client *client
	ctx    context.Context
	// The first millisecond of the time range.
	start  int64
	source string
}

func newRun(client *client) *run {
	// From 2001 on, for 20 years.
	start := 978_307_200_000 + rand.Int64N(20*365*24*3600)*1000
	return &run{client.open(""), client, context.Background(), start, "go-" + uuid.NewString()}
}

func (run *run) event(offset int64) *pingv1.PingRequest {
	return &pingv1.PingRequest{TimestampMs: run.start + offset, Source: run.source}
}

// count is the number of events in the run's range.
func (run *run) count() int64 {
	return must(run.pingCount(run.ctx, &pingv1.PingCountRequest{TimeRange: run.timeRange(), Strong: true})).PingCount
}

func (run *run) timeRange() *pingv1.TimeRange {
	return &pingv1.TimeRange{Start: run.start, End: run.start + rangeMs}
}

// wantCode ends the case unless err has this code.
func (run *run) wantCode(err error, code string) {
	if err == nil {
		panic(failure("no error, want " + code))
	}
	if run.code(err) != code {
		panic(failure("got " + err.Error() + ", want " + code))
	}
}

func unary(run *run) {
	event := run.event(0)
	event.Receipt = true
	receipt := must(run.ping(run.ctx, event))
	must(uuid.Parse(receipt.GetEventId()))
	query := &pingv1.PingCountRequest{TimeRange: run.timeRange(), After: receipt.GetToken()}
	answer := must(run.pingCount(run.ctx, query))
	want("count", answer.PingCount, 1)
	want("exact", answer.Exact, true)
	silent := must(run.ping(run.ctx, run.event(1)))
	want("a receipt that was not requested", silent.EventId == nil && silent.Token == nil, true)
	want("count", run.count(), 2)
}

func zero(run *run) {
	answer := must(run.pingCount(run.ctx, &pingv1.PingCountRequest{TimeRange: run.timeRange()}))
	want("count", answer.PingCount, 0)
	want("as_of_ms", answer.AsOfMs > 0, true)
}

func invalidInput(run *run) {
	_, err := run.ping(run.ctx, &pingv1.PingRequest{TimestampMs: -1})
	run.wantCode(err, "invalid_argument")
	field := ""
	for _, detail := range run.details(err) {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			field = request.FieldViolations[0].Field
		}
	}
	want("field in BadRequest", field, "timestamp_ms")
	_, err = run.pingCount(run.ctx, &pingv1.PingCountRequest{After: "yesterday"})
	run.wantCode(err, "invalid_argument")
	_, err = run.ping(run.ctx, &pingv1.PingRequest{Source: strings.Repeat("x", 100_000)})
	run.wantCode(err, "resource_exhausted")
	must(run.ping(run.ctx, run.event(0)))
	want("count", run.count(), 1)
}

// farTooLarge sends more than the server decodes of one event. Neither this call nor the next one may see a broken connection.
func farTooLarge(run *run) {
	_, err := run.ping(run.ctx, &pingv1.PingRequest{Source: strings.Repeat("x", 1_000_000)})
	run.wantCode(err, "resource_exhausted")
	must(run.ping(run.ctx, run.event(0)))
	want("count", run.count(), 1)
}

func unknownMethod(run *run) {
	_, err := run.unknown(run.ctx, run.event(0))
	run.wantCode(err, "unimplemented")
}

func retry(run *run) {
	event := run.event(0)
	event.EventId, event.Receipt = uuid.NewString(), true
	first := must(run.ping(run.ctx, event))
	want("event_id", first.GetEventId(), event.EventId)
	again := must(run.ping(run.ctx, event))
	want("event_id", again.GetEventId(), event.EventId)
	want("count", run.count(), 1)
	other := run.event(1)
	other.EventId = event.EventId
	_, err := run.ping(run.ctx, other)
	run.wantCode(err, "already_exists")
	reason := ""
	for _, detail := range run.details(err) {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			reason = info.Reason
		}
	}
	want("reason in ErrorInfo", reason, "EVENT_ID_CONFLICT")
	want("count", run.count(), 1)
}

func deadline(run *run) {
	ctx, cancel := context.WithTimeout(run.ctx, 300*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := run.pingCount(ctx, &pingv1.PingCountRequest{After: neverCounted})
	run.wantCode(err, "deadline_exceeded")
	want("in time", time.Since(started) < slow, true)
	want("count", run.count(), 0)
}

func cancellation(run *run) {
	ctx, cancel := context.WithCancel(run.ctx)
	time.AfterFunc(100*time.Millisecond, cancel)
	started := time.Now()
	_, err := run.pingCount(ctx, &pingv1.PingCountRequest{After: neverCounted})
	run.wantCode(err, "canceled")
	want("in time", time.Since(started) < slow, true)
	want("count", run.count(), 0)
}

// manyCancellations cancels most of a connection's calls soon after they start. Another call on the connection does not notice.
func manyCancellations(run *run) {
	must(run.ping(run.ctx, run.event(0)))
	waiting := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(run.ctx, time.Second)
		defer cancel()
		_, err := run.pingCount(ctx, &pingv1.PingCountRequest{After: neverCounted})
		waiting <- err
	}()
	ctx, cancel := context.WithCancel(run.ctx)
	var cancelled sync.WaitGroup
	for range 90 {
		cancelled.Go(func() { _, _ = run.pingCount(ctx, &pingv1.PingCountRequest{After: neverCounted}) })
	}
	time.Sleep(time.Millisecond)
	cancel()
	cancelled.Wait()
	run.wantCode(<-waiting, "deadline_exceeded")
	want("count", run.count(), 1)
}

func verify(run *run) {
	answer := must(run.verify(run.ctx, &pingv1.VerifyRequest{}))
	want("differences", strings.Join(answer.Differences, "; "), "")
	want("exact", answer.Exact, true)
	want("rows", answer.Rows > 0, true)
}
