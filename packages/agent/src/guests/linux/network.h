// The guest's network: one card, one IPv4 address, three services (echo on port 7, discard on 9, HTTP on 80), and a client that
// holds one connection to another guest's echo open and tells what becomes of it. The kernel itself answers pings.
//
// On the kernel's command line: stellwerk.ip=ADDRESS/BITS, stellwerk.talkTo=ADDRESS, stellwerk.talkEveryMs (20).

#pragma once
#include "boot.h"

enum { ECHO_PORT = 7, DISCARD_PORT = 9, HTTP_PORT = 80, SERVICES = 3, CONNECTIONS_MAX = 16, CHUNK = 16384 };
enum { REDIAL_MS = 500, TOLD_EVERY = 50, PUSH_CHUNKS = 64 };

struct address { unsigned short family, port; u32 ip; u8 pad[8]; };
struct interface { char name[16]; struct address address; u8 pad[8]; };
struct interface_flags { char name[16]; short flags; u8 pad[22]; };
struct connection { int fd, port; u64 length, sent; u8 bytes[CHUNK]; };

static int listeners[SERVICES] = {-1, -1, -1}, talk = -1, connecting;
static const int ports[SERVICES] = {ECHO_PORT, DISCARD_PORT, HTTP_PORT};
static struct connection connections[CONNECTIONS_MAX];
static struct address peer;
static u64 talk_number, talk_echoed, talk_got;
static u8 talk_answer[8];
static double talk_every, talk_due, talk_last, talk_gap, redial_at;

static void say(const char *text);
static void say_number(u64 number);
static void end_line(void);

static u32 swapped(u32 x) { return x >> 24 | (x >> 8 & 0xff00) | (x << 8 & 0xff0000) | x << 24; }
static unsigned short port_of(int port) { return (unsigned short)(port >> 8 | port << 8); }

/** In the order of the wire; 0: it is none. */
static u32 ip_of(const char *text) {
  u32 ip = 0;
  for (int part = 0; text && part < 4; part++) {
    u32 byte = 0;
    if (*text < '0' || *text > '9') return 0;
    while (*text >= '0' && *text <= '9') byte = byte * 10 + (u32)(*text++ - '0');
    ip = ip << 8 | (byte & 255);
    if (part < 3 && *text++ != '.') return 0;
  }
  return swapped(ip);
}

static void raise_interface(int fd, const char *name) {
  struct interface_flags wanted = {{0}, 0, {0}};
  memcpy(wanted.name, name, length_of(name));
  call3(SYS_IOCTL, fd, SIOCGIFFLAGS, &wanted);
  wanted.flags |= IFF_UP;
  call3(SYS_IOCTL, fd, SIOCSIFFLAGS, &wanted);
}

static void set_address(int fd, u32 request, u32 ip) {
  struct interface wanted = {"eth0", {AF_INET, 0, ip, {0}}, {0}};
  if (call3(SYS_IOCTL, fd, request, &wanted) != 0) {
    say("network failed");
    end_line();
  }
}

static void open_services(void) {
  for (int i = 0; i < SERVICES; i++) {
    struct address any = {AF_INET, port_of(ports[i]), 0, {0}};
    listeners[i] = (int)call3(SYS_SOCKET, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    call3(SYS_BIND, listeners[i], &any, sizeof any);
    call2(SYS_LISTEN, listeners[i], 16);
  }
}

static void open_network(void) {
  for (int i = 0; i < CONNECTIONS_MAX; i++) connections[i].fd = -1;
  const char *text = argument("stellwerk.ip");
  u32 ip = ip_of(text);
  if (ip == 0) return;
  u32 bits = 24;
  for (; *text && *text != ' '; text++) if (*text == '/') bits = (u32)number_of(text + 1, 24);
  int fd = (int)call3(SYS_SOCKET, AF_INET, SOCK_DGRAM, 0);
  raise_interface(fd, "lo");
  set_address(fd, SIOCSIFADDR, ip);
  set_address(fd, SIOCSIFNETMASK, swapped(bits == 0 ? 0 : 0xffffffffu << (32 - bits)));
  raise_interface(fd, "eth0");
  call1(SYS_CLOSE, fd);
  open_services();
  peer = (struct address){AF_INET, port_of(ECHO_PORT), ip_of(argument("stellwerk.talkTo")), {0}};
  talk_every = number_of(argument("stellwerk.talkEveryMs"), 20);
}

// --- served -----------------------------------------------------------------------------------------------------------

static void hang_up(struct connection *c) {
  call1(SYS_CLOSE, c->fd);
  c->fd = -1;
}

static void accept_all(void) {
  for (int i = 0; i < SERVICES; i++) {
    for (long fd; listeners[i] >= 0 && (fd = call4(SYS_ACCEPT4, listeners[i], 0, 0, SOCK_NONBLOCK)) >= 0;) {
      int free = 0;
      while (free < CONNECTIONS_MAX && connections[free].fd >= 0) free++;
      if (free == CONNECTIONS_MAX) {
        call1(SYS_CLOSE, fd);
        continue;
      }
      connections[free].fd = (int)fd;
      connections[free].port = ports[i];
      connections[free].length = connections[free].sent = 0;
    }
  }
}

static u64 put_text(u8 *into, const char *text) {
  u64 length = length_of(text);
  memcpy(into, text, length);
  return length;
}

/** What is asked for does not matter: it tells how far the ledger is. */
static u64 http_answer(u8 *into, u64 entries) {
  u64 length = put_text(into, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nentries ");
  char digits[21];
  int at = 20;
  digits[at] = 0;
  do digits[--at] = (char)('0' + entries % 10);
  while (entries /= 10);
  length += put_text(into + length, digits + at);
  return length + put_text(into + length, "\n");
}

static void serve(struct connection *c, u64 entries) {
  if (c->sent == c->length) {
    long got = call3(SYS_READ, c->fd, c->bytes, CHUNK);
    if (got == -EAGAIN) return;
    if (got <= 0) return hang_up(c);
    c->sent = 0;
    c->length = c->port == ECHO_PORT ? (u64)got : c->port == HTTP_PORT ? http_answer(c->bytes, entries) : 0;
  }
  while (c->sent < c->length) {
    long took = call3(SYS_WRITE, c->fd, c->bytes + c->sent, c->length - c->sent);
    if (took == -EAGAIN) return;
    if (took <= 0) return hang_up(c);
    c->sent += (u64)took;
  }
  if (c->port == HTTP_PORT) hang_up(c);
}

// --- asked for --------------------------------------------------------------------------------------------------------

static void talk_lost(double now, const char *how) {
  say("talk lost after ");
  say_number(talk_echoed);
  say(how);
  end_line();
  call1(SYS_CLOSE, talk);
  talk = -1;
  redial_at = now + REDIAL_MS;
}

static void dial(double now) {
  talk = (int)call3(SYS_SOCKET, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  long result = call3(SYS_CONNECT, talk, &peer, sizeof peer);
  connecting = result == -EINPROGRESS;
  talk_number = talk_echoed;
  talk_got = 0;
  talk_due = talk_last = now;
  if (result < 0 && !connecting) talk_lost(now, " not connected");
}

static void take_answer(double now) {
  for (;;) {
    long got = call3(SYS_READ, talk, talk_answer + talk_got, 8 - talk_got);
    if (got == -EAGAIN) return;
    if (got <= 0) return talk_lost(now, " closed");
    talk_got += (u64)got;
    if (talk_got < 8) continue;
    talk_got = 0;
    if (*(u64 *)talk_answer != talk_number) return talk_lost(now, " damaged");
    talk_echoed = talk_number;
    if (now - talk_last > talk_gap) talk_gap = now - talk_last;
    talk_last = now;
    talk_due = now + talk_every;
    if (talk_echoed % TOLD_EVERY != 0) continue;
    say("echo ");
    say_number(talk_echoed);
    say(" gap ");
    say_number((u64)talk_gap);
    end_line();
    talk_gap = 0;
  }
}

static int is_connected(double now) {
  struct pollfd waits = {talk, POLLOUT, 0};
  if (call3(SYS_POLL, &waits, 1, 0) <= 0) return 0;
  int error = 0, length = sizeof error;
  call5(SYS_GETSOCKOPT, talk, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    talk_lost(now, " not connected");
    return 0;
  }
  connecting = 0;
  return 1;
}

/** A number is sent when the one before has come back: one connection, and not a byte of it may be lost. */
static void talk_on(double now) {
  if (peer.ip == 0) return;
  if (talk < 0) {
    if (now >= redial_at) dial(now);
    return;
  }
  if (connecting && !is_connected(now)) return;
  take_answer(now);
  if (talk < 0 || talk_number != talk_echoed || now < talk_due) return;
  talk_number++;
  if (call3(SYS_WRITE, talk, &talk_number, 8) != 8) talk_lost(now, " not sent");
}

/** All it can to another guest's discard port for so long; tells how much that was. */
static void push(const char *to, u64 ms) {
  static u8 zeroes[CHUNK * PUSH_CHUNKS];
  struct address at = {AF_INET, port_of(DISCARD_PORT), ip_of(to), {0}};
  int fd = (int)call3(SYS_SOCKET, AF_INET, SOCK_STREAM, 0);
  u64 bytes = 0;
  double from = clock_ms();
  if (call3(SYS_CONNECT, fd, &at, sizeof at) == 0) {
    for (long took; clock_ms() - from < (double)ms && (took = call3(SYS_WRITE, fd, zeroes, sizeof zeroes)) > 0;) bytes += (u64)took;
  }
  double took_ms = clock_ms() - from;
  call1(SYS_CLOSE, fd);
  say("pushed ");
  say_number(bytes);
  say(" in ");
  say_number((u64)took_ms);
  end_line();
}

/** Everything that is to be looked at when something comes in. */
static u64 watched(struct pollfd *into) {
  u64 count = 0;
  for (int i = 0; i < SERVICES; i++) if (listeners[i] >= 0) into[count++] = (struct pollfd){listeners[i], POLLIN, 0};
  for (int i = 0; i < CONNECTIONS_MAX; i++) {
    const struct connection *c = &connections[i];
    if (c->fd >= 0) into[count++] = (struct pollfd){c->fd, c->sent < c->length ? POLLOUT : POLLIN, 0};
  }
  if (talk >= 0) into[count++] = (struct pollfd){talk, connecting ? POLLOUT : POLLIN, 0};
  return count;
}

/** Milliseconds until it has something to do by itself, at most `otherwise`. */
static int network_wait_ms(double now, int otherwise) {
  if (peer.ip == 0) return otherwise;
  double due = talk < 0 ? redial_at - now : talk_number == talk_echoed ? talk_due - now : otherwise;
  return due < 1 ? 1 : due < otherwise ? (int)due : otherwise;
}

static void network(double now, u64 entries) {
  accept_all();
  for (int i = 0; i < CONNECTIONS_MAX; i++) if (connections[i].fd >= 0) serve(&connections[i], entries);
  talk_on(now);
}
