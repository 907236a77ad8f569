import assert from 'node:assert/strict'
import { constants, readFileSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFailure } from '../../base/failure.ts'
import { temporaryDirectory } from '../../../test/harness/temporary-directory.ts'
import { FileHandles } from './file-handles.ts'

const FILE = { path: 'file', mode: 0o600, size: 16_384, direct: true }

function isDirect(fd: number): boolean {
  const text = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')
  const [, flags = ''] = /^flags:\s+(\d+)/m.exec(text) ?? []
  return (Number.parseInt(flags, 8) & constants.O_DIRECT) !== 0
}

test('a file system that refuses direct writes gets ordinary ones, from then on', () => {
  const directory = temporaryDirectory()
  const handles = new FileHandles(directory, undefined)
  const asked: boolean[] = []
  const write = (fd: number): void => {
    asked.push(isDirect(fd))
    if (isDirect(fd)) throw Object.assign(new Error('EINVAL'), { code: 'EINVAL' })
    writeSync(fd, Buffer.alloc(100, 1), 0, 100, 0)
  }
  handles.writePart(FILE, write)
  handles.writePart({ ...FILE, path: 'other' }, write)
  assert.deepEqual(asked, [true, false, false])
  assert.equal(statSync(join(directory, 'file')).size, FILE.size)
  handles.closeAll()
})

test('files that were open when direct writes were refused get ordinary ones as well', () => {
  const handles = new FileHandles(temporaryDirectory(), undefined)
  const other = { ...FILE, path: 'other' }
  assert.ok(isDirect(handles.handle(other)))
  const refuse = (fd: number): void => {
    if (isDirect(fd)) throw Object.assign(new Error('EINVAL'), { code: 'EINVAL' })
  }
  handles.writePart(FILE, refuse)
  handles.writePart(other, refuse)
  assert.ok(!isDirect(handles.handle(other)))
  handles.closeAll()
})

test('EINVAL of an ordinary write is an error, and so is any other of a direct one', () => {
  for (const [direct, code] of [
    [false, 'EINVAL'],
    [true, 'ENOSPC'],
  ] as const) {
    const handles = new FileHandles(temporaryDirectory(), undefined)
    let calls = 0
    const write = (): void => {
      calls++
      throw Object.assign(new Error(code), { code })
    }
    assert.throws(() => handles.writePart({ ...FILE, direct }, write), { code })
    assert.equal(calls, 1)
    handles.closeAll()
  }
})

test('a directory that cannot be written to is TM1217 and named', () => {
  const handles = new FileHandles(join(temporaryDirectory(), 'absent'), undefined)
  assert.throws(
    () => handles.handle(FILE),
    (error) => isFailure(error, 'TM1217') && /absent\/file/.test(error.message),
  )
})
