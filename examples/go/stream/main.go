// Command stream streams events. After a disconnect it continues: what was not acknowledged is sent again, with the same ids.
// Its arguments: ADDRESS EVENTS
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pingv1 "pingpipeline.io/clients/gen/ping/v1"
)

const (
	batchEvents = 100
	// Batches that may be unacknowledged at a time.
	window = 10
)

// sender has what is to be sent, and what was sent without an acknowledgement.
type sender struct {
	unsent         int
	unacknowledged []*pingv1.RecordBatchRequest
}

// next takes a batch of your events; nil if there are no more. An event keeps its id, however often it is sent.
func (sender *sender) next() *pingv1.RecordBatchRequest {
	if sender.unsent == 0 {
		return nil
	}
	batch := &pingv1.RecordBatchRequest{}
	for range min(batchEvents, sender.unsent) {
		id := uuid.Must(uuid.NewV7()).String()
		batch.Events = append(batch.Events, &pingv1.RecordRequest{EventId: id, Source: "shop-7", Kind: "sale"})
	}
	sender.unsent -= len(batch.Events)
	sender.unacknowledged = append(sender.unacknowledged, batch)
	return batch
}

// stream sends and acknowledges until nothing is left, or the connection breaks.
func (sender *sender) stream(events pingv1.EventServiceClient) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := events.RecordStream(ctx)
	if err != nil {
		return err
	}
	for _, batch := range sender.unacknowledged {
		// If the connection is broken, Recv has the reason.
		_ = stream.Send(batch)
	}
	for len(sender.unacknowledged) > 0 {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if len(answer.Refused) > 0 {
			log.Fatal("refused: ", answer.Refused[0].Message)
		}
		sender.unacknowledged = sender.unacknowledged[1:]
		if batch := sender.next(); batch != nil {
			_ = stream.Send(batch)
		}
	}
	return stream.CloseSend()
}

// final says whether sending again does not help.
func final(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition, codes.Unimplemented:
		return true
	}
	return false
}

func main() {
	total, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	sender := &sender{unsent: total}
	for len(sender.unacknowledged) < window && sender.next() != nil {
	}
	for pause := 100 * time.Millisecond; len(sender.unacknowledged) > 0; pause = min(2*pause, 2*time.Second) {
		before := sender.unacknowledged[0]
		if err := sender.stream(pingv1.NewEventServiceClient(connection)); err != nil {
			if final(err) {
				log.Fatal(err)
			}
			log.Printf("disconnected: %v; %d batches are sent again", err, len(sender.unacknowledged))
			time.Sleep(pause)
		}
		if len(sender.unacknowledged) > 0 && sender.unacknowledged[0] != before {
			pause = 50 * time.Millisecond
		}
	}
	answer, err := pingv1.NewPingServiceClient(connection).PingCount(context.Background(), &pingv1.PingCountRequest{Strong: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.PingCount)
}
