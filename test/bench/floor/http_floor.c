// The limit of HTTP from one process: a libcurl multi loop that keeps so many requests in flight and does nothing else.
//   http_floor URL IN_FLIGHT TOTAL     prints requests per second
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static size_t drop(char *data, size_t size, size_t n, void *self) {
  (void)data;
  (void)self;
  return size * n;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const char *url = argv[1];
  const int in_flight = atoi(argv[2]), total = atoi(argv[3]);
  curl_global_init(CURL_GLOBAL_DEFAULT);
  CURLM *multi = curl_multi_init();
  int started = 0, done = 0, failed = 0, running = 0;
  for (; started < in_flight && started < total; started++) {
    CURL *easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
    curl_multi_add_handle(multi, easy);
  }
  const double begin = now();
  while (done < total) {
    curl_multi_perform(multi, &running);
    int left = 0;
    for (CURLMsg *m = curl_multi_info_read(multi, &left); m != NULL; m = curl_multi_info_read(multi, &left)) {
      if (m->msg != CURLMSG_DONE) continue;
      CURL *easy = m->easy_handle;
      done++;
      failed += m->data.result != CURLE_OK;
      curl_multi_remove_handle(multi, easy);
      if (started < total) {
        started++;
        curl_multi_add_handle(multi, easy);
      }
    }
    if (done < total) curl_multi_poll(multi, NULL, 0, 1000, NULL);
  }
  const double took = now() - begin;
  printf("%.0f\n", total / took);
  return failed != 0;
}
