// Shows a process another time of day: the machine's time plus the seconds in the file CLOCK_OFFSET, which is read once per second.
// Monotonic clocks are not changed. Calls the kernel directly: a lookup of libc's functions allocates, and jemalloc asks for the time
// before it can allocate.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(time_t now) {
  static atomic_long read_at, seconds;
  if (atomic_load(&read_at) == now) return atomic_load(&seconds);
  char content[32] = "";
  int file = open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
  if (file < 0) abort();
  if (read(file, content, sizeof content - 1) <= 0) abort();
  close(file);
  atomic_store(&seconds, strtol(content, NULL, 10));
  atomic_store(&read_at, now);
  return atomic_load(&seconds);
}

int clock_gettime(clockid_t clock, struct timespec *result) {
  if (syscall(SYS_clock_gettime, clock, result) != 0) return -1;
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) result->tv_sec += offset(result->tv_sec);
  return 0;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone) {
  if (syscall(SYS_gettimeofday, result, zone) != 0) return -1;
  result->tv_sec += offset(result->tv_sec);
  return 0;
}

time_t time(time_t *result) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result) *result = now.tv_sec;
  return now.tv_sec;
}

// The kernel waits until a time of the machine's clock. A time before 2001 is one of the monotonic clock.
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
  if (until->tv_sec < 1000000000) return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, until);
  struct timespec machine;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &machine);
  struct timespec shifted = {.tv_sec = until->tv_sec - offset(machine.tv_sec), .tv_nsec = until->tv_nsec};
  return pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, &shifted);
}
