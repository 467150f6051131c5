import { describe, expect, it } from 'vitest'
import { type Keyboard, keysOf, lookOf, NO_KEYS, type Pressed, pressed } from './keys.ts'

/** All that is typed, up to what ends it. */
function type(sent: string, from: Keyboard = NO_KEYS): Pressed {
  let keyboard = from
  for (const key of keysOf(sent)) {
    const next = pressed(keyboard, key)
    if (typeof next === 'string') return next
    keyboard = next
  }
  return keyboard
}

describe('keys', () => {
  it('are named, however many come at once; what is no key is left out', () => {
    expect(keysOf('q\u001b[A\u001bOBx\u001b[5~\u001b[99zé\u001b\u0003')).toEqual([
      ...['q', 'up', 'down', 'x', 'page-up', 'escape', 'end'],
    ])
  })

  it('q, Ctrl-C and Ctrl-D end it; Ctrl-Z rests it', () => {
    for (const key of ['q', 'Q', '\u0003', '\u0004']) expect(type(key)).toBe('end')
    expect(type('\u001a')).toBe('suspend')
    expect(type('\u000c')).toBe('redraw')
  })

  it('/ takes a text, in which q is a letter and Ctrl-C is not', () => {
    expect(type('/quo\u007f\u007fx\r')).toEqual({ filter: 'qx', typing: false, skipped: 0 })
    expect(type('/web\u001b')).toEqual(NO_KEYS)
    expect(type('/web\r\u001b')).toEqual(NO_KEYS)
    expect(type('/web\u0003')).toBe('end')
    expect((type(`/${'x'.repeat(200)}`) as Keyboard).filter).toHaveLength(64)
  })

  it('arrows scroll, and stop with the last VM in sight', () => {
    expect(type('\u001b[B\u001b[B\u001b[A')).toMatchObject({ skipped: 1 })
    expect(type('\u001b[A')).toMatchObject({ skipped: 0 })
    const far = type('\u001b[6~\u001b[6~') as Keyboard
    expect(far.skipped).toBe(20)
    expect(lookOf(far, 5).keyboard.skipped).toBe(4)
    expect(type('\u001b[1~', far)).toMatchObject({ skipped: 0 })
  })

  it('the last line says what they do', () => {
    expect(lookOf(NO_KEYS, 0).look.footer).toMatch(/^q ends/)
    expect(lookOf(type('/we') as Keyboard, 0).look.footer).toMatch(/^only what has: we_/)
    expect(lookOf(type('/we\r') as Keyboard, 0).look).toMatchObject({
      filter: 'we',
      footer: expect.stringMatching(/now "we"/),
    })
  })
})
