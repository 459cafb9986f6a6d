// Pause points: places where tests stop a process to try an interleaving. Only in a build with DTS_POINTS (make POINTS=1), else nothing.
#pragma once

#ifdef DTS_POINTS
namespace dts::pg {
/// Stops here while a file of this name is in the folder dts_points of the data directory, after it has made NAME.reached with the own
/// process id. If the file holds a number, only the process of that id stops. Neither raises, allocates nor looks at interrupts, so it
/// may stand in callbacks and under locks.
void point(const char* name);
}  // namespace dts::pg
#define DTS_POINT(name) ::dts::pg::point(name)
#else
#define DTS_POINT(name) ((void)0)
#endif
