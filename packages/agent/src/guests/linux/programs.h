// Programs of other people that the image has besides the guest, and lines for busybox's shell: each is started by an order, speaks on
// the console, and when it has ended the guest says how. They have no input; but a shell that was ordered without a line has the console
// as its terminal, for as long as it takes.

#pragma once
#include "boot.h"

enum { PROGRAMS_MAX = 4, WORDS_MAX = 32, PROGRAM_NAME_MAX = 64 };

struct program { long pid; char name[PROGRAM_NAME_MAX]; };

static struct program programs[PROGRAMS_MAX];
/** The shell that has the console; 0: it is ours. */
static long terminal_shell;

static void say(const char *text);
static void say_number(u64 number);
static void end_line(void);

/** What is ours stays ours: no socket of a service is held open by a program. */
__attribute__((noreturn)) static void become(char **words, int has_terminal) {
  static char *surroundings[] = {"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/", "LC_ALL=C", "TERM=vt100", 0};
  if (has_terminal) {
    call1(SYS_SETSID, 0);
    call3(SYS_IOCTL, console, TIOCSCTTY, 1);
    call3(SYS_IOCTL, console, TCSETS, &cooked);
  }
  call2(SYS_DUP2, has_terminal ? console : call3(SYS_OPEN, "/dev/null", O_RDONLY, 0), 0);
  call2(SYS_DUP2, console, 1);
  call2(SYS_DUP2, console, 2);
  call3(SYS_CLOSE_RANGE, 3, ~0u, 0);
  call3(SYS_EXECVE, words[0], words, surroundings);
  for (;;) call1(SYS_EXIT, 127);
}

/** `words`: the path of a program first. It is told of by this name. Gives its number, or 0: it was not started. */
static long start_program(const char *name, char **words, int has_terminal) {
  struct program *free = 0;
  for (int i = 0; i < PROGRAMS_MAX; i++) if (programs[i].pid == 0) free = &programs[i];
  if (free == 0) {
    say("too many programs");
    end_line();
    return 0;
  }
  u64 length = 0;
  for (; name[length] && length < PROGRAM_NAME_MAX - 1; length++) free->name[length] = name[length];
  free->name[length] = 0;
  // It waits until the other has become the program: no page that it writes to is copied meanwhile.
  long pid = call5(SYS_CLONE, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) become(words, has_terminal);
  if (pid <= 0) return 0;
  return free->pid = pid;
}

/** A line for the shell. */
static void run_shell(char *text) {
  static char *words[] = {"/bin/busybox", "sh", "-c", 0, 0};
  words[3] = text;
  start_program("sh", words, 0);
}

/** A shell at the terminal; until it ends the guest itself says nothing there. */
static void open_shell(void) {
  static char *words[] = {"/bin/busybox", "sh", 0};
  terminal_shell = start_program("sh", words, 1);
}

/** `text`: the path of a program and its words; it is taken apart. */
static void run_program(char *text) {
  static char *words[WORDS_MAX + 1];
  int count = 0;
  for (char *at = text; *at;) {
    while (*at == ' ') *at++ = 0;
    if (*at && count < WORDS_MAX) words[count++] = at;
    while (*at && *at != ' ') at++;
  }
  words[count] = 0;
  if (count > 0) {
    start_program(words[0], words, 0);
    return;
  }
  say("run what?");
  end_line();
}

/** Tells of those that have ended; orphans end here, too. */
static void reap_programs(void) {
  int status = 0;
  for (long pid; (pid = call4(SYS_WAIT4, -1, &status, WNOHANG, 0)) > 0;) {
    for (int i = 0; i < PROGRAMS_MAX; i++) {
      if (programs[i].pid != pid) continue;
      programs[i].pid = 0;
      if (pid == terminal_shell) {
        terminal_shell = 0;
        // Whoever had it open was hung up when the first of its session ended.
        call1(SYS_CLOSE, console);
        open_console();
      }
      say("ran ");
      say(programs[i].name);
      say(status & 0x7f ? " signal " : " status ");
      say_number((u64)(status & 0x7f ? status & 0x7f : status >> 8 & 0xff));
      end_line();
    }
  }
}
