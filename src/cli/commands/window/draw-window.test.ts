import assert from 'node:assert/strict'
import { test } from 'node:test'
import pico from 'picocolors'
import type { RecoveryWindow, WindowInterval } from '../../../recovery/window.ts'
import { drawBar, drawWindow } from './draw-window.ts'

const PLAIN = pico.createColors(false)

function interval(timeline: number, from: string, to: string): WindowInterval {
  const at = (time: string) => ({ time: `2026-11-20T${time}:00Z`, lsn: '0/0' })
  return { timeline, from: at(from), to: at(to) } as unknown as WindowInterval
}

function windowOf(...intervals: WindowInterval[]): RecoveryWindow {
  return { intervals } as unknown as RecoveryWindow
}

const NOW = new Date('2026-11-20T20:00:00Z')

test('a row for each timeline, within the width, with the times below', () => {
  const shown = windowOf(interval(2, '15:00', '20:00'), interval(1, '10:00', '16:00'))
  assert.deepEqual(drawWindow(shown, NOW, { columns: 62, isUtf8: true }, PLAIN), [
    '',
    `timeline 2  ${'·'.repeat(25)}${'█'.repeat(25)}`,
    // The moment at which it ends belongs to the next cell, which is not whole.
    `timeline 1  ${'█'.repeat(30)}▒${'·'.repeat(19)}`,
    '            2026-11-20 10:00:00Z          2026-11-20 20:00:00Z',
  ])
})

test('without UTF-8 it is ASCII; what is too narrow is left out', () => {
  const shown = windowOf(interval(1, '10:00', '12:00'), interval(1, '15:00', '19:00'))
  const [, bar] = drawWindow(shown, NOW, { columns: 32, isUtf8: false }, PLAIN)
  assert.equal(bar, 'timeline 1  ####+.....########+.')
  assert.deepEqual(drawWindow(shown, NOW, { columns: 20, isUtf8: true }, PLAIN), [])
  assert.deepEqual(drawWindow(windowOf(), NOW, { columns: 80, isUtf8: true }, PLAIN), [])
})

test('a short hole is seen, and so is a short interval', () => {
  const all = { from: 0, to: 1000 }
  const holed = drawBar(
    [
      { from: 0, to: 495 },
      { from: 496, to: 1000 },
    ],
    all,
    10,
  )
  assert.deepEqual(holed, [...Array(4).fill('whole'), 'part', ...Array(5).fill('whole')])
  assert.deepEqual(drawBar([{ from: 320, to: 320 }], all, 4), ['none', 'part', 'none', 'none'])
  const touching = drawBar(
    [
      { from: 0, to: 500 },
      { from: 500, to: 1000 },
    ],
    all,
    5,
  )
  assert.deepEqual(touching, Array(5).fill('whole'))
})
