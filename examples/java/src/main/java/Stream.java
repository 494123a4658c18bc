import com.github.f4b6a3.uuid.UuidCreator;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import io.pingpipeline.api.ping.v1.EventServiceGrpc;
import io.pingpipeline.api.ping.v1.PingCountRequest;
import io.pingpipeline.api.ping.v1.PingServiceGrpc;
import io.pingpipeline.api.ping.v1.RecordBatchRequest;
import io.pingpipeline.api.ping.v1.RecordBatchResponse;
import io.pingpipeline.api.ping.v1.RecordRequest;
import java.util.ArrayDeque;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * Streams events. After a disconnect it continues: what was not acknowledged is sent again, with the same ids. Its
 * arguments: ADDRESS EVENTS
 */
public final class Stream {
  private static final int BATCH_EVENTS = 100;

  /** Batches that may be unacknowledged at a time. */
  private static final int WINDOW = 10;

  /** Sending again does not help. */
  private static final Set<Status.Code> FINAL =
      Set.of(
          Status.Code.INVALID_ARGUMENT,
          Status.Code.UNAUTHENTICATED,
          Status.Code.PERMISSION_DENIED,
          Status.Code.FAILED_PRECONDITION,
          Status.Code.UNIMPLEMENTED);

  private final ArrayDeque<RecordBatchRequest> unacknowledged = new ArrayDeque<>();
  private int unsent;

  private Stream(int total) {
    unsent = total;
    while (unacknowledged.size() < WINDOW && next() != null) {}
  }

  /** A batch of your events; null if there are no more. An event keeps its id, however often it is sent. */
  private RecordBatchRequest next() {
    if (unsent == 0) return null;
    var batch = RecordBatchRequest.newBuilder();
    for (int size = Math.min(BATCH_EVENTS, unsent); size > 0; size--, unsent--) {
      String id = UuidCreator.getTimeOrderedEpoch().toString();
      batch.addEvents(RecordRequest.newBuilder().setEventId(id).setSource("shop-7").setKind("sale"));
    }
    unacknowledged.add(batch.build());
    return unacknowledged.getLast();
  }

  /** Sends and acknowledges until nothing is left, or the connection breaks. */
  private void stream(ManagedChannel channel) throws InterruptedException {
    var answers = new Answers();
    var requests = EventServiceGrpc.newStub(channel).recordStream(answers);
    for (var batch : unacknowledged) requests.onNext(batch);
    while (!unacknowledged.isEmpty()) {
      RecordBatchResponse answer = answers.next();
      if (answer.getRefusedCount() > 0) throw new IllegalStateException(answer.getRefused(0).getMessage());
      unacknowledged.removeFirst();
      var batch = next();
      if (batch != null) requests.onNext(batch);
    }
    requests.onCompleted();
  }

  /** What the server answers, and at the end why there is no more. */
  private static final class Answers implements StreamObserver<RecordBatchResponse> {
    private final LinkedBlockingQueue<CompletableFuture<RecordBatchResponse>> received = new LinkedBlockingQueue<>();

    @Override
    public void onNext(RecordBatchResponse answer) {
      received.add(CompletableFuture.completedFuture(answer));
    }

    @Override
    public void onError(Throwable error) {
      received.add(CompletableFuture.failedFuture(error));
    }

    @Override
    public void onCompleted() {
      onError(Status.UNAVAILABLE.withDescription("the server stops").asRuntimeException());
    }

    private RecordBatchResponse next() throws InterruptedException {
      try {
        return received.take().join();
      } catch (CompletionException failure) {
        throw (StatusRuntimeException) failure.getCause();
      }
    }
  }

  public static void main(String[] args) throws InterruptedException {
    ManagedChannel channel = Grpc.newChannelBuilder(args[0], InsecureChannelCredentials.create()).build();
    var stream = new Stream(Integer.parseInt(args[1]));
    for (long pause = 100; !stream.unacknowledged.isEmpty(); pause = Math.min(2 * pause, 2_000)) {
      var before = stream.unacknowledged.getFirst();
      try {
        stream.stream(channel);
      } catch (StatusRuntimeException error) {
        if (FINAL.contains(error.getStatus().getCode())) throw error;
        System.err.printf("disconnected: %s; %d batches are sent again%n", error, stream.unacknowledged.size());
        if (stream.unacknowledged.getFirst() != before) pause = 100;
        Thread.sleep(pause);
      }
    }
    var strong = PingCountRequest.newBuilder().setStrong(true).build();
    System.out.println(PingServiceGrpc.newBlockingStub(channel).pingCount(strong).getPingCount());
    channel.shutdownNow();
  }
}
