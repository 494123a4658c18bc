// Command count counts one event, and sends it again after a failure: it is counted once. Its arguments: ADDRESS [EVENT_ID]
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pingv1 "pingpipeline.io/clients/gen/ping/v1"
)

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	pings := pingv1.NewPingServiceClient(connection)
	// Without an id of its own, an event that is sent twice is two events.
	event := &pingv1.PingRequest{EventId: uuid.Must(uuid.NewV7()).String(), Source: "shop-7", Kind: "sale"}
	if len(os.Args) > 2 {
		event.EventId = os.Args[2]
	}
	for attempt := range 10 {
		if err = send(pings, event); err == nil || !retryable(err) {
			break
		}
		time.Sleep(min(100*time.Millisecond<<attempt, 2*time.Second))
	}
	if err != nil {
		log.Fatal(err)
	}
	answer, err := pings.PingCount(context.Background(), &pingv1.PingCountRequest{Strong: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.PingCount)
}

func send(pings pingv1.PingServiceClient, event *pingv1.PingRequest) error {
	deadline, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := pings.Ping(deadline, event)
	return err
}

func retryable(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return true
	}
	return false
}
