import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { after, afterEach, beforeEach, describe, test } from 'node:test'
import { collect } from '../../test/harness/faulty-storage.ts'
import { describeStorageContract, keysOf } from '../../test/harness/storage-contract.ts'
import { type Failure, isFailure } from '../base/failure.ts'
import { openPosixStorage } from './posix-storage.ts'
import type { Storage } from './storage.ts'
import { MARKER_KEY } from './storage-key.ts'

const text = (value: string) => Buffer.from(value)
const VICTIM = join(import.meta.dirname, '../../test/harness/storage-victim.ts')
const DRIVER = join(import.meta.dirname, 'posix-storage.ts')
const isRoot = process.geteuid?.() === 0
const NOBODY = 65534

let base: string
let root: string
let storage: Storage

async function createPlace(): Promise<void> {
  base = fs.mkdtempSync(join(tmpdir(), 'tidemark-storage-'))
  root = join(base, 'repository')
  storage = openPosixStorage({ root })
  await storage.write(MARKER_KEY, text('{}'), { createOnly: true })
}

const removePlace = () => fs.rmSync(base, { recursive: true, force: true })

describeStorageContract('posix', async () => {
  await createPlace()
  const place = base
  return {
    storage,
    openAgain: async () => openPosixStorage({ root }),
    dispose: async () => {
      assert.deepEqual(fs.readdirSync(join(root, '.incoming')), [], 'unfinished objects are left')
      fs.rmSync(place, { recursive: true })
    },
  }
})

async function failureOf(action: Promise<unknown>, code: string): Promise<Failure> {
  try {
    await action
  } catch (error) {
    assert.ok(isFailure(error), String((error as Error).stack))
    assert.equal(error.code, code, error.because ?? error.message)
    assert.ok(error.fix.length > 10)
    return error
  }
  assert.fail(`expected ${code}`)
}

async function everythingFails(because: RegExp): Promise<void> {
  const attempts = [
    storage.read('clusters/a'),
    storage.readRange('clusters/a', 0, 1),
    storage.size('clusters/a'),
    collect(storage.list('')),
    collect(storage.list('clusters/none/')),
    storage.write('clusters/b', text('x')),
    storage.openWriter('clusters/b'),
    storage.remove('clusters/a'),
    storage.confirmDurable(['clusters/a']),
    storage.removeLeftovers(),
    storage.freeBytes(),
  ]
  for (const result of await Promise.allSettled(attempts)) {
    assert.equal(result.status, 'rejected')
    const failure = await failureOf(Promise.reject(result.reason), 'TM1507')
    assert.match(failure.because ?? '', because)
    assert.match(failure.fix, /mount/)
  }
}

describe('a repository that is not there', () => {
  beforeEach(createPlace)
  afterEach(removePlace)

  test('a root that has vanished is a failure, never an absence', async () => {
    await storage.write('clusters/a', text('x'))
    fs.renameSync(root, `${root}.away`)
    await everythingFails(/does not exist; is its file system mounted\?/)
    assert.equal(fs.existsSync(root), false, 'nothing was created in its place')
    assert.equal(await storage.read(MARKER_KEY), undefined)
  })

  test('neither is the empty directory below a mount point', async () => {
    await storage.write('clusters/a', text('x'))
    fs.renameSync(root, `${root}.away`)
    fs.mkdirSync(root)
    await everythingFails(/holds no tidemark.repository/)
    assert.deepEqual(fs.readdirSync(root), [])
  })

  test('a file system that goes away in mid-listing and in mid-write is noticed', async () => {
    for (let index = 0; index < 300; index += 1) fs.mkdirSync(join(root, `d${index}`))
    await storage.write('d0/a', text('x'))
    await storage.write('d9/z', text('x'))
    const listing = async () => {
      for await (const { key } of storage.list('')) {
        if (key === 'd0/a') fs.renameSync(root, `${root}.away`)
      }
    }
    await failureOf(listing(), 'TM1507')
    fs.renameSync(`${root}.away`, root)
    const writer = await storage.openWriter('d0/pack')
    writer.append([text('x')])
    fs.renameSync(root, `${root}.away`)
    await failureOf(writer.commit(), 'TM1507')
    assert.equal(fs.existsSync(root), false)
  })

  test('a new repository needs an empty directory', async () => {
    const used = join(base, 'used')
    fs.mkdirSync(used)
    fs.writeFileSync(join(used, 'letter.txt'), '')
    const other = openPosixStorage({ root: used })
    const failure = await failureOf(other.write(MARKER_KEY, text('{}')), 'TM1501')
    assert.match(failure.because ?? '', /not empty: it holds letter.txt/)
    fs.rmSync(join(used, 'letter.txt'))
    fs.mkdirSync(join(used, 'lost+found'))
    await other.write(MARKER_KEY, text('{}'), { createOnly: true })
    await failureOf(other.write(MARKER_KEY, text('{}'), { createOnly: true }), 'TM1502')
    assert.deepEqual(await collect(other.list('')), [{ key: MARKER_KEY, sizeBytes: 2 }])
  })
})

describe('what else lies in the directories', () => {
  beforeEach(createPlace)
  afterEach(removePlace)

  test('files that are no keys are passed over', async () => {
    await storage.write('a/b', text('x'))
    for (const name of ['.nfs0001', 'x~ y', '.hidden', 'ü']) {
      fs.writeFileSync(join(root, 'a', name), '')
    }
    fs.mkdirSync(join(root, 'lost+found'))
    assert.deepEqual(await keysOf(storage), ['a/b'])
  })

  test('a symbolic link is refused, wherever it leads', async () => {
    const outside = join(base, 'outside')
    fs.mkdirSync(outside)
    fs.writeFileSync(join(outside, 'secret'), 'x')
    fs.symlinkSync(outside, join(root, 'link'))
    for (const action of [
      () => storage.read('link/secret'),
      () => storage.size('link/secret'),
      () => storage.write('link/new', text('x')),
      () => storage.write('link/deep/new', text('x'), { createOnly: true }),
      () => storage.remove('link/secret'),
      () => collect(storage.list('link/')),
      () => collect(storage.list('')),
    ]) {
      const failure = await failureOf(action(), 'TM1501')
      assert.match(failure.because ?? '', /link.*: it is a symbolic link/)
    }
    assert.deepEqual(fs.readdirSync(outside), ['secret'])
    await storage.write('a/b', text('x'))
    fs.symlinkSync(join(outside, 'secret'), join(root, 'a/c'))
    await failureOf(storage.read('a/c'), 'TM1501')
    await failureOf(collect(storage.list('a/')), 'TM1501')
  })

  test('a pipe under the name of a key neither hangs nor is an object', async () => {
    await storage.write('a/b', text('x'))
    execFileSync('mkfifo', [join(root, 'a/pipe')])
    await failureOf(storage.read('a/pipe'), 'TM1501')
    await failureOf(collect(storage.list('a/')), 'TM1501')
  })

  test('directories that somebody removed are made again', async () => {
    await storage.write('a/b/c', text('x'))
    fs.rmSync(join(root, 'a'), { recursive: true })
    await storage.write('a/b/d', text('y'))
    fs.rmSync(join(root, 'a'), { recursive: true })
    fs.rmSync(join(root, '.incoming'), { recursive: true })
    const writer = await storage.openWriter('a/b/e')
    writer.append([text('z')])
    await writer.commit()
    assert.deepEqual(await keysOf(storage), ['a/b/e'])
  })
})

const modeOf = (path: string) => fs.statSync(join(root, path)).mode & 0o7777

async function asUnprivileged(action: () => Promise<void>): Promise<void> {
  if (isRoot) process.seteuid?.(NOBODY)
  try {
    await action()
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
}

describe('permissions', () => {
  beforeEach(createPlace)
  afterEach(removePlace)

  test('nobody else can read a repository', async () => {
    await storage.write('a/b', text('x'))
    assert.equal(modeOf(''), 0o700)
    assert.equal(modeOf('a'), 0o700)
    assert.equal(modeOf('.incoming'), 0o700)
    assert.equal(modeOf('a/b'), 0o600)
  })

  test('a root with group access passes it on, whatever the umask', async () => {
    const before = process.umask(0o077)
    try {
      fs.chmodSync(root, 0o2755)
      await openPosixStorage({ root }).write('g/h', text('x'))
      fs.chmodSync(root, 0o770)
      await openPosixStorage({ root }).write('w/h', text('x'))
    } finally {
      process.umask(before)
    }
    assert.equal(modeOf('g'), 0o2750)
    assert.equal(modeOf('g/h'), 0o640)
    assert.equal(modeOf('w'), 0o770)
    assert.equal(modeOf('w/h'), 0o640)
  })

  test('what root writes belongs to the owner of the root', { skip: !isRoot }, async () => {
    fs.chownSync(root, NOBODY, NOBODY)
    await openPosixStorage({ root }).write('o/p', text('x'))
    for (const path of ['o', 'o/p']) {
      const { uid, gid } = fs.statSync(join(root, path))
      assert.deepEqual({ uid, gid }, { uid: NOBODY, gid: NOBODY })
    }
    const owner = { uid: NOBODY, gid: NOBODY }
    const other = openPosixStorage({ root: join(base, 'new'), owner })
    await other.write(MARKER_KEY, text('{}'), { createOnly: true })
    assert.equal(fs.statSync(join(base, 'new')).uid, NOBODY)
    assert.equal(fs.statSync(join(base, 'new', MARKER_KEY)).uid, NOBODY)
  })

  test('a directory and a file without permission are failures that name them', async () => {
    await storage.write('a/b', text('x'))
    fs.chmodSync(base, 0o755)
    fs.chmodSync(root, 0o555)
    fs.chmodSync(join(root, 'a'), 0o555)
    fs.chmodSync(join(root, 'a/b'), 0)
    await asUnprivileged(async () => {
      const other = openPosixStorage({ root })
      const read = await failureOf(other.read('a/b'), 'TM1501')
      assert.match(read.because ?? '', /a\/b: permission denied$/)
      assert.match(read.fix, /uid \d+ access to .*a\/b/)
      const write = await failureOf(other.write('a/c', text('x')), 'TM1501')
      assert.match(write.because ?? '', /permission denied/)
      await failureOf(other.remove('a/b'), 'TM1501')
    })
    fs.chmodSync(join(root, 'a'), 0)
    await asUnprivileged(async () => {
      const other = openPosixStorage({ root })
      await failureOf(other.read('a/zzz'), 'TM1501')
      await failureOf(collect(other.list('a/')), 'TM1501')
      await failureOf(collect(other.list('')), 'TM1501')
    })
    fs.chmodSync(join(root, 'a'), 0o700)
    fs.chmodSync(root, 0o700)
  })
})

describe('writers that are killed', () => {
  const children: ChildProcess[] = []
  beforeEach(createPlace)
  afterEach(removePlace)
  after(() => {
    for (const child of children) child.kill('SIGKILL')
  })

  function startVictim(...args: string[]): ChildProcess {
    const child = spawn(process.execPath, [VICTIM, storage.url, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    return child
  }

  async function kill(child: ChildProcess): Promise<void> {
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }

  test('leave nothing visible, and are cleaned up once they are dead', async () => {
    const child = startVictim('hold-writer')
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
    await once(lines, 'line')
    fs.writeFileSync(join(root, '.incoming', 'not-ours'), '')
    assert.equal(await storage.removeLeftovers(), 0, 'its writer lives')
    const own = await storage.openWriter('mine')
    await kill(child)
    assert.deepEqual(await keysOf(storage), [])
    assert.equal(await storage.removeLeftovers(), 1)
    own.append([text('still here')])
    await own.commit()
    assert.equal(await storage.size('mine'), 10)
    assert.deepEqual(fs.readdirSync(join(root, '.incoming')), ['not-ours'])
  })

  test('lose nothing that they acknowledged, at whatever moment they die', async () => {
    for (const rounds of [1, 4, 9]) {
      const child = startVictim()
      const acknowledged: number[] = []
      const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
      for await (const line of lines) {
        acknowledged.push(Number(line))
        if (acknowledged.length === rounds) await kill(child)
      }
      const keys = await keysOf(storage, 'stream/')
      assert.ok(keys.length >= acknowledged.length)
      for (const key of keys) {
        const number = Number(key.slice('stream/'.length))
        const bytes = Buffer.from((await storage.read(key)) ?? [])
        assert.ok(bytes.equals(Buffer.alloc(40_000, number)), `${key} is torn`)
        await storage.remove(key)
      }
      await storage.removeLeftovers()
      assert.deepEqual(fs.readdirSync(join(root, '.incoming')), [])
    }
  })
})

describe('no room', () => {
  beforeEach(createPlace)
  afterEach(removePlace)

  test('a full file system is told with what is free and what was needed', async (t) => {
    const small = join(base, 'small')
    fs.mkdirSync(small)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small], { stdio: 'pipe' })
    } catch {
      return t.skip('mounting a small file system needs root')
    }
    try {
      const other = openPosixStorage({ root: small })
      await other.write(MARKER_KEY, text('{}'), { createOnly: true })
      await fillUp(other, small)
    } finally {
      execFileSync('umount', [small])
    }
  })

  async function fillUp(other: Storage, small: string): Promise<void> {
    const failure = await failureOf(other.write('big', Buffer.alloc(2_000_000)), 'TM1506')
    assert.match(failure.because ?? '', /no space is left.*bytes are free, 2000000 more/)
    assert.match(failure.fix, /make room/)
    assert.equal(failure.details?.['neededBytes'], 2_000_000)
    assert.deepEqual(await keysOf(other), [])
    const writer = await other.openWriter('pack')
    writer.append([Buffer.alloc(400_000)])
    const append = () => {
      for (let count = 0; count < 10; count += 1) writer.append([Buffer.alloc(150_000)])
    }
    assert.throws(append, (error) => isFailure(error, 'TM1506'))
    await writer.abort()
    await assert.rejects(writer.commit(), /finished/)
    assert.deepEqual(fs.readdirSync(join(small, '.incoming')), [], 'the room is given back')
    await other.write('fits', Buffer.alloc(800_000))
  }

  test('a file size limit is a failure that leaves nothing', () => {
    const script = `
      import { openPosixStorage } from ${JSON.stringify(DRIVER)}
      const storage = openPosixStorage({ root: ${JSON.stringify(root)} })
      const writer = await storage.openWriter('pack')
      try { writer.append([Buffer.alloc(100_000), Buffer.alloc(4_000_000)]) }
      catch (error) { console.log(error.code, error.details.systemError, error.fix) }
      try { await storage.write('whole', Buffer.alloc(4_000_000)) }
      catch (error) { console.log(error.code, error.details.systemError) }`
    const node = `'${process.execPath}' --input-type=module-typescript`
    const output = execFileSync('sh', ['-c', `ulimit -f 1024; ${node}`], { input: script })
    assert.match(String(output), /^TM1501 EFBIG lift the file size limit.*\nTM1501 EFBIG\n$/)
    assert.deepEqual(fs.readdirSync(join(root, '.incoming')), [])
  })
})
