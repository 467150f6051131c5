// Keys while somebody watches: what a terminal sends, by name, and what each changes of the look. Pure.

import type { Look } from './picture.ts'

export interface Keyboard {
  readonly filter: string
  /** A filter is being typed. */
  readonly typing: boolean
  readonly skipped: number
}

export const NO_KEYS: Keyboard = { filter: '', typing: false, skipped: 0 }

const FILTER_MAX = 64
const PAGE_ROWS = 10

const NAMES: { readonly [sent: string]: string } = {
  '\u0003': 'end',
  '\u0004': 'end',
  '\u001c': 'end',
  '\u001a': 'suspend',
  '\u000c': 'redraw',
  '\r': 'enter',
  '\n': 'enter',
  '\u007f': 'rub-out',
  '\b': 'rub-out',
  '\u001b': 'escape',
  '\u001b[A': 'up',
  '\u001b[B': 'down',
  '\u001bOA': 'up',
  '\u001bOB': 'down',
  '\u001b[5~': 'page-up',
  '\u001b[6~': 'page-down',
  '\u001b[H': 'home',
  '\u001b[1~': 'home',
}

/** Names of keys, or characters; what is neither is left out. Several may come at once. */
export function keysOf(sent: string): string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is how a terminal says keys
  const pieces = sent.match(/\u001b\[[0-9;]*[A-Za-z~]|\u001bO[A-Z]|./gsu) ?? []
  return pieces.flatMap(piece => {
    const name = NAMES[piece]
    if (name !== undefined) return [name]
    return /^[\u0020-\u007e]$/.test(piece) ? [piece] : []
  })
}

export type Pressed = Keyboard | 'end' | 'suspend' | 'redraw'

export function pressed(keyboard: Keyboard, key: string): Pressed {
  if (key === 'end' || key === 'suspend' || key === 'redraw') return key
  return keyboard.typing ? typed(keyboard, key) : commanded(keyboard, key)
}

function typed(keyboard: Keyboard, key: string): Keyboard {
  const { filter } = keyboard
  if (key === 'enter') return { ...keyboard, typing: false }
  if (key === 'escape') return NO_KEYS
  if (key === 'rub-out') return { ...keyboard, filter: filter.slice(0, -1) }
  return key.length === 1 && filter.length < FILTER_MAX ? { ...keyboard, filter: filter + key, skipped: 0 } : keyboard
}

function commanded(keyboard: Keyboard, key: string): Pressed {
  const scrolled = (by: number): Keyboard => ({ ...keyboard, skipped: Math.max(0, keyboard.skipped + by) })
  switch (key) {
    case 'q':
    case 'Q':
      return 'end'
    case '/':
      return { ...keyboard, typing: true, filter: '' }
    case 'escape':
      return NO_KEYS
    case 'up':
    case 'k':
      return scrolled(-1)
    case 'down':
    case 'j':
      return scrolled(1)
    case 'page-up':
      return scrolled(-PAGE_ROWS)
    case 'page-down':
    case ' ':
      return scrolled(PAGE_ROWS)
    case 'home':
      return { ...keyboard, skipped: 0 }
    default:
      return keyboard
  }
}

/** Scrolling ends with the last VM in sight. */
export function lookOf(keyboard: Keyboard, vms: number): { readonly look: Look; readonly keyboard: Keyboard } {
  const { filter, typing } = keyboard
  const skipped = Math.min(keyboard.skipped, Math.max(0, vms - 1))
  const footer = typing
    ? `only what has: ${filter}_   (Enter keeps it, Esc drops it)`
    : `q ends · / only what has a text${filter === '' ? '' : ` (now "${filter}", Esc: all)`} · ↑ ↓ scroll the VMs`
  return { look: { filter, skipped, footer }, keyboard: { ...keyboard, skipped } }
}
