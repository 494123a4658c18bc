import com.github.f4b6a3.uuid.UuidCreator;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.pingpipeline.api.ping.v1.PingCountRequest;
import io.pingpipeline.api.ping.v1.PingRequest;
import io.pingpipeline.api.ping.v1.PingServiceGrpc;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/** Counts one event, and sends it again after a failure: it is counted once. Its arguments: ADDRESS [EVENT_ID] */
public final class Count {
  private static final Set<Status.Code> RETRYABLE =
      Set.of(Status.Code.UNAVAILABLE, Status.Code.DEADLINE_EXCEEDED, Status.Code.RESOURCE_EXHAUSTED);

  public static void main(String[] args) throws InterruptedException {
    ManagedChannel channel = Grpc.newChannelBuilder(args[0], InsecureChannelCredentials.create()).build();
    var pings = PingServiceGrpc.newBlockingStub(channel);
    // Without an id of its own, an event that is sent twice is two events.
    String eventId = args.length > 1 ? args[1] : UuidCreator.getTimeOrderedEpoch().toString();
    var event = PingRequest.newBuilder().setEventId(eventId).setSource("shop-7").setKind("sale").build();
    for (int attempt = 0; ; attempt++) {
      try {
        pings.withDeadlineAfter(5, TimeUnit.SECONDS).ping(event);
        break;
      } catch (StatusRuntimeException error) {
        if (!RETRYABLE.contains(error.getStatus().getCode()) || attempt == 9) throw error;
        Thread.sleep(Math.min(100L << attempt, 2_000));
      }
    }
    System.out.println(pings.pingCount(PingCountRequest.newBuilder().setStrong(true).build()).getPingCount());
    channel.shutdownNow();
  }
}
