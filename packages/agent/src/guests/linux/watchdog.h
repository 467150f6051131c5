// The board's own watchdog (TCO, of Intel's ICH9) as its driver would arm it: Debian's cloud kernel has no driver for it. Registers
// are those of Intel's datasheet of the ICH9 (13.1.13 ACPI base, 13.1.35 RCBA, 10.1.75 GCS, 13.9 TCO).

#pragma once
#include "system.h"

enum { PCI_ADDRESS = 0xcf8, PCI_DATA = 0xcfc, LPC = 0x8000f800, LPC_ACPI_BASE = 0x40, LPC_RCBA = 0xf0 };
enum { TCO = 0x60, TCO_RELOAD = 0x00, TCO_CONTROL = 0x08, TCO_TIMER = 0x12, GCS = 0x3410, GCS_NO_REBOOT = 1 << 5 };
/** Of 0.6 s; it barks when they have passed twice. */
enum { TCO_TICKS = 4 };

static inline void out32(unsigned short port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "d"(port)); }
static inline void out16(unsigned short port, unsigned short value) {
  __asm__ volatile("outw %0, %1" : : "a"(value), "d"(port));
}
static inline u32 in32(unsigned short port) {
  u32 value;
  __asm__ volatile("inl %1, %0" : "=a"(value) : "d"(port));
  return value;
}

static u32 lpc_register(u32 at) {
  out32(PCI_ADDRESS, LPC | at);
  return in32(PCI_DATA);
}

/** Arms it for a few seconds. False: this machine has none that could be. */
static int arm_watchdog(void) {
  if (call1(SYS_IOPL, 3) != 0) return 0;
  u32 ports = lpc_register(LPC_ACPI_BASE) & 0xff80, chipset = lpc_register(LPC_RCBA) & ~0x3fffu;
  int memory = (int)call3(SYS_OPEN, "/dev/mem", O_RDWR, 0);
  u64 page = chipset + (GCS & ~0xfffu);
  u8 *registers = (u8 *)call(SYS_MMAP, 0, 4096, PROT_READ_WRITE, MAP_SHARED, (u64)memory, page);
  if (memory < 0 || (u64)registers > -4096ul || ports == 0) return 0;
  volatile u32 *gcs = (volatile u32 *)(registers + (GCS & 0xfff));
  *gcs &= ~(u32)GCS_NO_REBOOT;
  if (*gcs & GCS_NO_REBOOT) return 0;
  out16((unsigned short)(ports + TCO + TCO_TIMER), TCO_TICKS);
  out16((unsigned short)(ports + TCO + TCO_CONTROL), 0);
  out16((unsigned short)(ports + TCO + TCO_RELOAD), 1);
  return 1;
}
