// The first process of a Linux that has nothing else: mounts what the kernel shows itself by, loads the modules that the
// image lists, reads the kernel's command line, and opens the console, the disk and the power button.

#pragma once
#include "system.h"

enum { COMMAND_LINE_MAX = 4096, MODULE_LIST_MAX = 4096, BUTTONS_MAX = 8, DISK_PATIENCE_MS = 3000 };

static char command_line[COMMAND_LINE_MAX];
static int console = -1, disk = -1, buttons[BUTTONS_MAX], button_count;
static u64 disk_bytes;
/** The console as Linux makes it, for programs: whatever one of them makes of it, the next one has it so. */
static struct termios cooked;
static int knows_cooked;
static u32 unit_bytes = 512;

static u64 read_text(const char *path, char *into, u64 room) {
  int fd = (int)call3(SYS_OPEN, path, O_RDONLY, 0);
  if (fd < 0) return 0;
  u64 length = 0;
  for (long got; length < room - 1 && (got = call3(SYS_READ, fd, into + length, room - 1 - length)) > 0;) length += (u64)got;
  call1(SYS_CLOSE, fd);
  into[length] = 0;
  return length;
}

static void mount_all(void) {
  call2(SYS_MKDIR, "/dev", 0755);
  call2(SYS_MKDIR, "/proc", 0755);
  call2(SYS_MKDIR, "/sys", 0755);
  call5(SYS_MOUNT, "devtmpfs", "/dev", "devtmpfs", 0, 0);
  call5(SYS_MOUNT, "proc", "/proc", "proc", 0, 0);
  call5(SYS_MOUNT, "sysfs", "/sys", "sysfs", 0, 0);
}

/** In the listed order; one that a machine has no use for may fail. */
static void load_modules(void) {
  static char list[MODULE_LIST_MAX];
  read_text("/modules/order", list, sizeof list);
  for (char *at = list; *at;) {
    char *end = at;
    while (*end && *end != '\n') end++;
    int last = *end == 0;
    *end = 0;
    int fd = (int)call3(SYS_OPEN, at, O_RDONLY, 0);
    int compressed = end - at > 3 && end[-1] == 'z';
    if (fd >= 0) {
      call3(SYS_FINIT_MODULE, fd, "", compressed ? MODULE_INIT_COMPRESSED_FILE : 0);
      call1(SYS_CLOSE, fd);
    }
    at = last ? end : end + 1;
  }
}

static void open_console(void) {
  console = (int)call3(SYS_OPEN, "/dev/ttyS0", O_RDWR | O_NOCTTY, 0);
  if (!knows_cooked) call3(SYS_IOCTL, console, TCGETS, &cooked);
  knows_cooked = 1;
  struct termios raw = cooked;
  raw.input = 0;
  raw.local = 0;
  call3(SYS_IOCTL, console, TCSETS, &raw);
}

/** The word behind `name=` on the kernel's command line, or null. */
static const char *argument(const char *name) {
  u64 length = length_of(name);
  for (const char *at = command_line; *at; at++) {
    int begins = at == command_line || at[-1] == ' ';
    if (begins && starts_with(at, name) && at[length] == '=') return at + length + 1;
  }
  return 0;
}

/** `folder`, the disk's name, `rest`. */
static const char *disk_path(const char *folder, const char *rest) {
  static char path[96];
  u64 length = 0;
  const char *name = argument("stellwerk.disk");
  for (const char *at = folder; *at; at++) path[length++] = *at;
  for (const char *at = name ? name : "vda"; *at && *at != ' ' && *at != '\n' && length < 64; at++) path[length++] = *at;
  for (const char *at = rest; *at; at++) path[length++] = *at;
  path[length] = 0;
  return path;
}

static int has_disk(void) {
  int fd = (int)call3(SYS_OPEN, disk_path("/sys/class/block/", "/size"), O_RDONLY, 0);
  if (fd >= 0) call1(SYS_CLOSE, fd);
  return fd >= 0;
}

/** The first virtio disk, or the one that the command line names; its device may take a moment to come. */
static void open_disk(void) {
  for (int waited = 0; !has_disk() && waited < DISK_PATIENCE_MS; waited += 10) sleep_ms(10);
  disk = (int)call3(SYS_OPEN, disk_path("/dev/", ""), O_RDWR | O_DIRECT, 0);
  if (disk < 0) return;
  u32 sector = 0;
  call3(SYS_IOCTL, disk, BLKGETSIZE64, &disk_bytes);
  call3(SYS_IOCTL, disk, BLKSSZGET, &sector);
  if (sector > unit_bytes) unit_bytes = sector;
}

static void open_buttons(void) {
  char path[] = "/dev/input/event0";
  for (int i = 0; i < BUTTONS_MAX; i++) {
    path[sizeof path - 2] = (char)('0' + i);
    int fd = (int)call3(SYS_OPEN, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd >= 0) buttons[button_count++] = fd;
  }
}

static int power_button_pressed(void) {
  struct input_event event;
  int pressed = 0;
  for (int i = 0; i < button_count; i++) {
    while (call3(SYS_READ, buttons[i], &event, sizeof event) == sizeof event) {
      if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) pressed = 1;
    }
  }
  return pressed;
}

static double number_of(const char *text, double otherwise) {
  if (text == 0) return otherwise;
  double value = 0, scale = 1;
  int behind_point = 0;
  for (; (*text >= '0' && *text <= '9') || *text == '.'; text++) {
    if (*text == '.') {
      behind_point = 1;
      continue;
    }
    value = value * 10 + (*text - '0');
    if (behind_point) scale *= 10;
  }
  return value / scale;
}

static void boot_linux(void) {
  mount_all();
  load_modules();
  read_text("/proc/cmdline", command_line, sizeof command_line);
  open_console();
  open_disk();
  open_buttons();
}

__attribute__((noreturn)) static void power_off(void) {
  call1(SYS_SYNC, 0);
  call4(SYS_REBOOT, 0xfee1dead, 672274793, 0x4321fedc, 0);
  for (;;) sleep_ms(1000);
}
