// The `ledger` guest for real machines: as the WebAssembly one (../assembly/ledger.ts) it checks itself, and says the same
// words on its console. Its memory carries a sequence of numbered pages, each verified before it is rewritten; its disk
// carries the append log of ../ledger-format.ts. It is the first and only process of its Linux.
//
// It has a network too, if it is given an address: network.h; and it runs programs that the image has besides it: programs.h. What is
// typed is echoed behind a `>`, so that nothing that was typed looks like the guest's own words, and none of these is torn by it.
//
// On the kernel's command line: stellwerk.vm=NAME, and stellwerk.dirtyMiBPerSecond (0), stellwerk.writesPerSecond
// (10), stellwerk.workingSetMiB (half of what is free), stellwerk.readBacksPerSecond (1), stellwerk.disk (vda).

#include "network.h"
#include "programs.h"
#include "watchdog.h"

enum { PAGE = 4096, BATCH_PAGES = 256, RECOVERY_BYTES = 0x40000, TICK_MS = 4, RETRY_MS = 500, DAMAGES_MAX = 16, ORDER_MAX = 1024 };
enum { BACKSPACE = 8, KILL_LINE = 0x15, DELETE = 0x7f };
enum { LOG_MAGIC = 0x474c5753, LOG_START = 4096, HEAD_BYTES = 24, SCRATCH_BYTES = 65536, ENTRY_MAX = 8192 };

static u32 crc_table[256], tag;
static u64 entries, sequence, work_pages, stride, damages;
static u32 previous_crc;
static u8 *work;
static double dirty_rate, write_rate, read_rate, dirty_credit, write_credit, read_credit, retry_at;
static int log_full, shutting_down;
static u64 draw_state;
static u8 write_buffer[ENTRY_MAX] __attribute__((aligned(4096)));
static u8 read_buffer[ENTRY_MAX] __attribute__((aligned(4096)));
static u8 recovery_buffer[RECOVERY_BYTES] __attribute__((aligned(4096)));

// --- words ------------------------------------------------------------------------------------------------------------

static char line[512], order[ORDER_MAX];
static u64 line_length, order_length;

static void say(const char *text) {
  while (*text && line_length < sizeof line - 1) line[line_length++] = *text++;
}

static void say_number(u64 number) {
  char digits[21];
  int at = 20;
  digits[at] = 0;
  do digits[--at] = (char)('0' + number % 10);
  while (number /= 10);
  say(digits + at);
}

static void put(const char *bytes, u64 length) {
  for (u64 sent = 0; sent < length;) {
    long took = call3(SYS_WRITE, console, bytes + sent, length - sent);
    if (took > 0) sent += (u64)took;
    else sleep_ms(1);
  }
}

/** What is being typed stands on a line of its own. */
static void put_order(void) {
  put("> ", 2);
  put(order, order_length);
}

static void end_line(void) {
  line[line_length++] = '\n';
  if (terminal_shell == 0) {
    if (order_length > 0) put("\n", 1);
    put(line, line_length);
    if (order_length > 0) put_order();
  }
  line_length = 0;
}

// --- checksums --------------------------------------------------------------------------------------------------------

static void build_crc_table(void) {
  for (u32 i = 0; i < 256; i++) {
    u32 c = i;
    for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    crc_table[i] = c;
  }
}

static u32 crc32(const u8 *bytes, u64 length) {
  u32 c = 0xffffffffu;
  while (length--) c = crc_table[(c ^ *bytes++) & 255] ^ (c >> 8);
  return ~c;
}

static u32 load32(const u8 *at) { return *(const u32 *)at; }
static u64 load64(const u8 *at) { return *(const u64 *)at; }

// --- memory: number k goes to page (k × stride) mod pages, so what a page must hold follows from k --------------------

static u64 gcd(u64 a, u64 b) {
  while (b) {
    u64 rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

/** The page's words follow from its number; the last one checks that they are all there. */
static void fill(u64 *page, u64 number) {
  u64 x = number * 0x9e3779b97f4a7c15ul + 1, sum = 0;
  page[0] = number;
  for (int word = 1; word < PAGE / 8 - 1; word++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    page[word] = x;
    sum += x;
  }
  page[PAGE / 8 - 1] = sum ^ number;
}

static int holds(const u64 *page, u64 number) {
  if (page[0] != number) return 0;
  u64 sum = 0;
  for (int word = 1; word < PAGE / 8 - 1; word++) sum += page[word];
  // A page that was never filled holds nothing.
  return page[PAGE / 8 - 1] == (sum ^ number);
}

static void next_page(void) {
  u64 number = sequence + 1, at = number * stride % work_pages;
  u64 *page = (u64 *)(work + at * PAGE);
  u64 expected = number > work_pages ? number - work_pages : 0;
  if (!holds(page, expected)) {
    if (damages++ < DAMAGES_MAX) {
      say("memory damaged page ");
      say_number(at);
      say(" number ");
      say_number(page[0]);
      say(" expected ");
      say_number(expected);
      end_line();
    }
  }
  fill(page, number);
  sequence = number;
}

/** Rewrites what is due, at most a batch; true if there is more. The first pass over all pages is made at once. */
static int rewrite(double elapsed) {
  double most = dirty_rate / 10 + 1;
  dirty_credit += elapsed * dirty_rate / 1000;
  // What could not be done in time is dropped, not made up for.
  if (dirty_credit > most) dirty_credit = most;
  if (sequence < work_pages) dirty_credit = (double)(work_pages - sequence);
  for (int left = BATCH_PAGES; dirty_credit >= 1 && left > 0; left--) {
    next_page();
    dirty_credit -= 1;
  }
  return dirty_credit >= 1;
}

// --- disk -------------------------------------------------------------------------------------------------------------

static u64 units_of(u64 entry) { return entry % 3 == 0 ? 2 : 1; }
static u64 offset_of(u64 entry) { return LOG_START + (entry - 1 + (entry - 1) / 3) * unit_bytes; }
static u64 size_of(u64 entry) { return units_of(entry) * unit_bytes; }
static u64 log_end(void) { return disk_bytes > LOG_START + SCRATCH_BYTES ? disk_bytes - SCRATCH_BYTES : LOG_START; }

static int entry_is(const u8 *at, u64 entry, int check_previous) {
  u64 size = size_of(entry);
  if (load32(at) != LOG_MAGIC || load64(at + 8) != entry || load32(at + 16) != tag) return 0;
  if (check_previous && load32(at + 20) != previous_crc) return 0;
  return crc32(at, size - 4) == load32(at + size - 4);
}

/** A failed request is complained of once and tried again after a while: the disk may come back. */
static void complain(const char *what) {
  say("disk error ");
  say(what);
  end_line();
}

/** Reads the log from its beginning. Behind its end there may be the next entry, torn, but nothing later: that were a loss. */
static void recover(void) {
  for (;;) {
    u64 offset = offset_of(entries + 1), end = log_end();
    u64 length = offset >= end ? 0 : end - offset < RECOVERY_BYTES ? end - offset : RECOVERY_BYTES;
    length -= length % unit_bytes;
    while (length > 0 && call4(SYS_PREAD, disk, recovery_buffer, length, offset) != (long)length) {
      complain("read log");
      sleep_ms(RETRY_MS);
    }
    u64 at = 0;
    while (at + size_of(entries + 1) <= length && entry_is(recovery_buffer + at, entries + 1, 1)) {
      entries++;
      at += size_of(entries);
      previous_crc = load32(recovery_buffer + at - 4);
    }
    if (at > 0) continue;
    say("recovered ");
    say_number(entries);
    for (u64 unit = 0; unit < length; unit += unit_bytes) {
      const u8 *head = recovery_buffer + unit;
      if (load32(head) != LOG_MAGIC || load32(head + 16) != tag) continue;
      if (unit == 0 && load64(head + 8) == entries + 1) continue;
      say(" damaged entry ");
      say_number(entries + 1);
      say(" is missing, ");
      say_number(load64(head + 8));
      say(" is there");
      end_line();
      return;
    }
    say(" intact");
    end_line();
    return;
  }
}

static void encode(u64 entry) {
  u64 size = size_of(entry);
  *(u32 *)write_buffer = LOG_MAGIC;
  *(u32 *)(write_buffer + 4) = (u32)units_of(entry);
  *(u64 *)(write_buffer + 8) = entry;
  *(u32 *)(write_buffer + 16) = tag;
  *(u32 *)(write_buffer + 20) = previous_crc;
  u32 x = (((u32)entry * 0x9e3779b1u) ^ tag) | 1;
  for (u64 at = HEAD_BYTES; at < size - 4; at += 4) {
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *(u32 *)(write_buffer + at) = x;
  }
  *(u32 *)(write_buffer + size - 4) = crc32(write_buffer, size - 4);
}

/** The next entry, if one is due: acknowledged when it is on stable storage. */
static void append(double now, double elapsed) {
  double most = write_rate / 50 + 2;
  write_credit += elapsed * write_rate / 1000;
  if (write_credit > most) write_credit = most;
  if (disk < 0 || log_full || write_credit < 1 || shutting_down || now < retry_at) return;
  u64 entry = entries + 1, size = size_of(entry);
  if (offset_of(entry) + size > log_end()) {
    log_full = 1;
    say("log full after ");
    say_number(entries);
    end_line();
    return;
  }
  encode(entry);
  if (call4(SYS_PWRITE, disk, write_buffer, size, offset_of(entry)) != (long)size || call1(SYS_FDATASYNC, disk) != 0) {
    complain("write entry");
    retry_at = now + RETRY_MS;
    return;
  }
  write_credit -= 1;
  entries = entry;
  previous_crc = load32(write_buffer + size - 4);
  say("ack ");
  say_number(entries);
  end_line();
}

static void read_back(double elapsed) {
  read_credit += elapsed * read_rate / 1000;
  if (read_credit > 1) read_credit = 1;
  if (read_credit < 1 || entries == 0 || disk < 0 || shutting_down) return;
  read_credit = 0;
  draw_state ^= draw_state << 13;
  draw_state ^= draw_state >> 7;
  draw_state ^= draw_state << 17;
  u64 entry = 1 + draw_state % entries, size = size_of(entry);
  // One that can't be read says nothing of what it holds.
  if (call4(SYS_PREAD, disk, read_buffer, size, offset_of(entry)) != (long)size || entry_is(read_buffer, entry, 0)) return;
  say("disk damaged entry ");
  say_number(entry);
  end_line();
}

// --- orders -----------------------------------------------------------------------------------------------------------

static void obey(void) {
  if (starts_with(order, "halt")) power_off();
  // The kernel panics when its first process is gone.
  if (starts_with(order, "crash")) call1(SYS_EXIT, 1);
  // A guest whose watchdog is not fed any more: it does nothing, for good.
  if (starts_with(order, "hang")) {
    say(arm_watchdog() ? "hangs" : "no watchdog");
    end_line();
    for (;;) {}
  }
  // push ADDRESS MS
  if (starts_with(order, "push ")) {
    const char *ms = order + 5;
    while (*ms && *ms != ' ') ms++;
    return push(order + 5, (u64)number_of(*ms ? ms + 1 : 0, 1000));
  }
  // sh [LINE]
  if (starts_with(order, "sh ")) return run_shell(order + 3);
  if (starts_with(order, "sh") && order[2] == 0) return open_shell();
  // run PATH WORD…
  if (starts_with(order, "run ")) return run_program(order + 4);
  if (starts_with(order, "status")) {
    say("status entries ");
    say_number(entries);
    say(" sequence ");
    say_number(sequence);
    say(" damages ");
    say_number(damages);
    say(" clock ");
    say_number((u64)clock_ms());
  } else say("unknown command");
  end_line();
}

static void rub_out(void) {
  put("\b \b", 3);
  order_length--;
  if (order_length == 0) put("\b \b\b \b", 6);
}

/** Of an order; what is longer than any is not echoed. */
static void take_key(char key) {
  if (key == BACKSPACE || key == DELETE) {
    if (order_length > 0) rub_out();
  } else if (key == KILL_LINE) {
    while (order_length > 0) rub_out();
  } else if ((u8)key >= ' ' && order_length < sizeof order) {
    order[order_length++] = key;
    if (order_length == 1) put_order();
    else put(&key, 1);
  }
}

static void take_order(void) {
  if (order_length == 0) return;
  put("\n", 1);
  u64 length = order_length;
  order_length = 0;
  if (length < sizeof order) {
    order[length] = 0;
    return obey();
  }
  // One that is cut short would be another order.
  say("line too long");
  end_line();
}

static void listen(void) {
  struct pollfd waits = {console, POLLIN, 0};
  while (terminal_shell == 0 && call3(SYS_POLL, &waits, 1, 0) > 0 && (waits.revents & POLLIN)) {
    char key;
    if (call3(SYS_READ, console, &key, 1) != 1) return;
    if (key == '\n' || key == '\r') take_order();
    else take_key(key);
  }
}

static void end(void) {
  while (disk >= 0 && call1(SYS_FDATASYNC, disk) != 0) {
    complain("flush");
    sleep_ms(RETRY_MS);
  }
  say("down after ");
  say_number(entries);
  end_line();
  power_off();
}

// --- life -------------------------------------------------------------------------------------------------------------

static void take_memory(void) {
  struct sysinfo info;
  call1(SYS_SYSINFO, &info);
  double wanted = number_of(argument("stellwerk.workingSetMiB"), 0) * 256;
  u64 most = info.free_ram * info.unit / 2 / PAGE;
  work_pages = wanted >= 1 && (u64)wanted < most ? (u64)wanted : most;
  work = (u8 *)call(SYS_MMAP, 0, work_pages * PAGE, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, (u64)-1, 0);
  stride = work_pages * 5 / 8;
  if (stride == 0) stride = 1;
  while (gcd(stride, work_pages) != 1) stride++;
}

static int wait_ms(void) {
  if (dirty_rate > 0 || shutting_down) return TICK_MS;
  double due = write_rate > 0 && disk >= 0 && !log_full ? (1 - write_credit) * 1000 / write_rate : 1000;
  return due < 1 ? 1 : due > 100 ? 100 : (int)due;
}

static void run(void) {
  boot_linux();
  build_crc_table();
  open_network();
  const char *vm = argument("stellwerk.vm");
  u64 name_length = 0;
  while (vm && vm[name_length] && vm[name_length] != ' ' && vm[name_length] != '\n') name_length++;
  tag = crc32((const u8 *)vm, name_length);
  dirty_rate = number_of(argument("stellwerk.dirtyMiBPerSecond"), 0) * 256;
  write_rate = number_of(argument("stellwerk.writesPerSecond"), 10);
  read_rate = number_of(argument("stellwerk.readBacksPerSecond"), 1);
  call3(SYS_GETRANDOM, &draw_state, sizeof draw_state, 1);
  draw_state |= 1;
  say("boot");
  end_line();
  take_memory();
  recover();
  for (double before = clock_ms();;) {
    double now = clock_ms(), elapsed = now - before;
    before = now;
    listen();
    reap_programs();
    if (power_button_pressed()) shutting_down = 1;
    network(now, entries);
    append(now, elapsed);
    if (shutting_down && now >= retry_at) end();
    read_back(elapsed);
    if (rewrite(elapsed)) continue;
    struct pollfd waits[1 + SERVICES + CONNECTIONS_MAX + 1] = {{terminal_shell == 0 ? console : -1, POLLIN, 0}};
    u64 count = 1 + watched(waits + 1);
    call3(SYS_POLL, waits, count, network_wait_ms(clock_ms(), wait_ms()));
  }
}

__attribute__((naked, noreturn)) void _start(void) {
  __asm__("and $-16, %rsp\n call start_aligned");
}

__attribute__((noreturn, used)) void start_aligned(void) {
  run();
  power_off();
}
