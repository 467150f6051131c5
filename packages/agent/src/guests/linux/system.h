// What the guest asks of Linux on x86-64, without a C library: system calls, and the few structures they take. Numbers and
// layouts are those of the kernel's uapi headers (asm/unistd_64.h, asm-generic/termbits.h, linux/input.h, linux/fs.h, linux/sockios.h,
// linux/in.h).

#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

enum {
  SYS_READ = 0, SYS_WRITE = 1, SYS_OPEN = 2, SYS_CLOSE = 3, SYS_POLL = 7, SYS_MMAP = 9, SYS_IOCTL = 16,
  SYS_PREAD = 17, SYS_PWRITE = 18, SYS_DUP2 = 33, SYS_NANOSLEEP = 35, SYS_SOCKET = 41, SYS_CONNECT = 42, SYS_BIND = 49,
  SYS_LISTEN = 50, SYS_GETSOCKOPT = 55, SYS_CLONE = 56, SYS_EXECVE = 59, SYS_EXIT = 60, SYS_WAIT4 = 61, SYS_FDATASYNC = 75, SYS_MKDIR = 83,
  SYS_SYSINFO = 99, SYS_SETSID = 112, SYS_SYNC = 162, SYS_MOUNT = 165, SYS_REBOOT = 169, SYS_IOPL = 172, SYS_CLOCK_GETTIME = 228,
  SYS_ACCEPT4 = 288, SYS_FINIT_MODULE = 313, SYS_GETRANDOM = 318, SYS_CLOSE_RANGE = 436,
};

enum { O_RDONLY = 0, O_RDWR = 2, O_NONBLOCK = 04000, O_DIRECT = 040000, O_NOCTTY = 0400 };
enum { PROT_READ_WRITE = 3, MAP_SHARED = 1, MAP_PRIVATE_ANONYMOUS = 0x22, POLLIN = 1, POLLOUT = 4, CLOCK_MONOTONIC = 1 };
enum { TCGETS = 0x5401, TCSETS = 0x5402, TIOCSCTTY = 0x540e, BLKSSZGET = 0x1268, MODULE_INIT_COMPRESSED_FILE = 4 };
enum { AF_INET = 2, SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_NONBLOCK = 04000, SOL_SOCKET = 1, SO_ERROR = 4, IFF_UP = 1 };
enum { SIOCGIFFLAGS = 0x8913, SIOCSIFFLAGS = 0x8914, SIOCSIFADDR = 0x8916, SIOCSIFNETMASK = 0x891c };
enum { EAGAIN = 11, EINPROGRESS = 115, CLONE_VFORK = 0x4000, SIGCHLD = 17, WNOHANG = 1 };
#define BLKGETSIZE64 0x80081272ul

enum { EV_KEY = 1, KEY_POWER = 116 };

struct pollfd { int fd; short events, revents; };
struct timespec { i64 seconds, nanoseconds; };
struct input_event { i64 seconds, microseconds; unsigned short type, code; int value; };
struct termios { u32 input, output, control, local; u8 line, characters[19]; };
struct sysinfo { i64 uptime; u64 loads[3], total_ram, free_ram, shared_ram, buffer_ram, total_swap, free_swap;
                 unsigned short processes, pad; u64 total_high, free_high; u32 unit; char end[4]; };

static inline long call(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
  register u64 r10 __asm__("r10") = d;
  register u64 r8 __asm__("r8") = e;
  register u64 r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

#define call1(n, a) call(n, (u64)(a), 0, 0, 0, 0, 0)
#define call2(n, a, b) call(n, (u64)(a), (u64)(b), 0, 0, 0, 0)
#define call3(n, a, b, c) call(n, (u64)(a), (u64)(b), (u64)(c), 0, 0, 0)
#define call4(n, a, b, c, d) call(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), 0, 0)
#define call5(n, a, b, c, d, e) call(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), 0)

static inline double clock_ms(void) {
  struct timespec now;
  call2(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, &now);
  return (double)now.seconds * 1e3 + (double)now.nanoseconds / 1e6;
}

static inline void sleep_ms(i64 ms) {
  struct timespec length = {ms / 1000, ms % 1000 * 1000000};
  call2(SYS_NANOSLEEP, &length, 0);
}

// The compiler may call these for what it copies and clears.
void *memcpy(void *to, const void *from, u64 length) {
  for (u64 i = 0; i < length; i++) ((u8 *)to)[i] = ((const u8 *)from)[i];
  return to;
}

void *memset(void *to, int value, u64 length) {
  for (u64 i = 0; i < length; i++) ((u8 *)to)[i] = (u8)value;
  return to;
}

static inline u64 length_of(const char *text) {
  u64 length = 0;
  while (text[length]) length++;
  return length;
}

static inline int starts_with(const char *text, const char *prefix) {
  while (*prefix) if (*text++ != *prefix++) return 0;
  return 1;
}
