#include "pg/point.hpp"

#ifdef DTS_POINTS

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace dts::pg {

namespace {

/// Whether the file is there, and for this process.
bool stops_here(const char* path) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char text[32] = "";
  const ssize_t n = read(file, text, sizeof(text) - 1);
  close(file);
  const long pid = n > 0 ? strtol(text, nullptr, 10) : 0;
  return pid == 0 || pid == getpid();
}

void announce(const char* path) {
  char made[256], reached[256], text[32];
  snprintf(made, sizeof(made), "%s.%d", path, getpid());
  snprintf(reached, sizeof(reached), "%s.reached", path);
  const int file = open(made, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) return;
  const int length = snprintf(text, sizeof(text), "%d\n", getpid());
  (void)!write(file, text, static_cast<size_t>(length));
  close(file);
  (void)rename(made, reached);  // whoever sees it sees it whole
}

}  // namespace

void point(const char* name) {
  const int saved = errno;
  char path[200];
  snprintf(path, sizeof(path), "dts_points/%s", name);
  if (stops_here(path)) {
    announce(path);
    while (stops_here(path)) usleep(1000);
  }
  errno = saved;
}

}  // namespace dts::pg

#endif
