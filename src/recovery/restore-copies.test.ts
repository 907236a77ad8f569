/** Restores out of several repositories, each damaged in places of its own. */
import assert from 'node:assert/strict'
import {
  cpSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { CLUSTER, type HandMadeBackup, makeBackup } from '../../test/harness/hand-made-backup.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { isFailure } from '../base/failure.ts'
import { SILENT } from '../base/progress.ts'
import { crc32c } from '../postgres/crc32c.ts'
import { packKey } from '../repository/keys.ts'
import { openPack } from '../repository/pack-reader.ts'
import type { PassedOver } from '../storage/fallback-storage.ts'
import { openStorage } from '../storage/open-storage.ts'
import { type RestoredFile, restoreFiles } from './restore-files.ts'

const LAYOUT = {
  seed: 7,
  pages: [3, 700, 2100, 40, 900],
  contents: [10, 300_000, 900_000],
  packs: 3,
}

interface Scene {
  readonly backup: HandMadeBackup
  /** Roots of the repositories, the first is the nearest. */
  readonly roots: readonly string[]
}

async function makeScene(repositories: number): Promise<Scene> {
  const backup = await makeBackup(LAYOUT)
  const first = new URL(backup.url).pathname
  const roots = [first]
  while (roots.length < repositories) {
    const copy = join(temporaryDirectory(), 'repository')
    cpSync(first, copy, { recursive: true })
    roots.push(copy)
  }
  return { backup, roots }
}

interface Restored {
  readonly directory: string
  readonly list: readonly RestoredFile[]
  readonly events: readonly PassedOver[]
}

async function restore({ backup, roots }: Scene, onProgress = (): void => {}): Promise<Restored> {
  const directory = join(temporaryDirectory(), 'data')
  mkdirSync(directory, { mode: 0o700 })
  const list: RestoredFile[] = []
  const events: PassedOver[] = []
  const [nearest, ...others] = roots.map((root) => ({ url: `file://${root}` }))
  await restoreFiles({
    storage: { url: nearest?.url ?? '', fallbacks: others },
    record: backup.record,
    dataDirectory: directory,
    owner: undefined,
    workers: 2,
    limits: { batchPages: 256, writeBackBytes: 1024 ** 3 },
    progress: { ...SILENT, advance: onProgress },
    placeOf: ({ path }) => path,
    onFile: (file) => void list.push(file),
    onPassedOver: (event) => void events.push(event),
  })
  return { directory, list, events }
}

function assertWhole({ backup }: Scene, { directory, list }: Restored): void {
  for (const [path, content] of backup.files) {
    assert.ok(readFileSync(join(directory, path)).equals(content), path)
    const reported = list.find((file) => file.path === path)
    assert.deepEqual(reported, { path, size: content.length, crc32c: crc32c(content) })
  }
}

/** Flips one bit in every frame for which `wanted` says so. */
async function flip(root: string, pack: string, wanted: (ordinal: number) => boolean) {
  const storage = await openStorage({ url: `file://${root}` })
  const { frames } = await openPack(storage, CLUSTER, pack)
  const path = join(root, packKey(CLUSTER, pack))
  const bytes = readFileSync(path)
  for (const [ordinal, { offset, storedLength }] of frames.entries()) {
    if (!wanted(ordinal) || storedLength === 0) continue
    const at = offset + (storedLength >> 1)
    bytes[at] = (bytes[at] as number) ^ 0x10
  }
  writeFileSync(path, bytes)
}

test('every frame is damaged in one or two of three repositories, and all comes back', async () => {
  const scene = await makeScene(3)
  const { packs } = scene.backup
  for (const pack of packs) {
    for (const [number, root] of scene.roots.entries()) {
      await flip(root, pack, (ordinal) => ordinal % 3 !== number)
    }
  }
  const restored = await restore(scene)
  assertWhole(scene, restored)
  const keys = new Set(restored.events.map(({ key }) => key))
  assert.deepEqual([...keys].sort(), packs.map((pack) => packKey(CLUSTER, pack)).sort())
  const [nearest] = scene.roots
  assert.ok(restored.events.some(({ url }) => url === `file://${nearest}`))
  assert.ok(restored.events.every(({ url, takenFrom }) => url !== takenFrom))
})

test('a pack is gone here, cut there, and without its index in between', async () => {
  const scene = await makeScene(3)
  const [a = '', b = '', c = ''] = scene.roots
  const [one = '', two = '', three = ''] = scene.backup.packs.map((pack) => packKey(CLUSTER, pack))
  rmSync(join(a, one))
  truncateSync(join(a, two), statSync(join(a, two)).size - 30)
  truncateSync(join(b, two), 10)
  rmSync(join(b, three))
  rmSync(join(c, three))
  rmSync(join(c, one))
  const restored = await restore(scene)
  assertWhole(scene, restored)
  const told = restored.events.map(({ url, key }) => `${url} ${key}`)
  for (const expected of [`file://${a} ${one}`, `file://${a} ${two}`, `file://${b} ${two}`]) {
    assert.ok(told.includes(expected), expected)
  }
})

test('the nearest repository goes away in mid-restore', async () => {
  const scene = await makeScene(2)
  const [nearest = ''] = scene.roots
  let gone = false
  const restored = await restore(scene, () => {
    if (gone) return
    gone = true
    rmSync(nearest, { recursive: true })
  })
  assert.ok(gone)
  assertWhole(scene, restored)
  assert.ok(restored.events.some(({ because }) => because.length > 0))
})

test('one frame that is damaged everywhere ends the restore, and each place is named', async () => {
  const scene = await makeScene(2)
  const [pack = ''] = scene.backup.packs
  for (const root of scene.roots) await flip(root, pack, (ordinal) => ordinal === 5)
  await assert.rejects(restore(scene), (error) => {
    assert.ok(isFailure(error, 'TM1601'), String(error))
    assert.ok(error.message.includes(packKey(CLUSTER, pack)), error.message)
    for (const root of scene.roots) assert.ok(error.because?.includes(root), error.because)
    return true
  })
})

test('a pack that is nowhere ends the restore', async () => {
  const scene = await makeScene(2)
  const [pack = ''] = scene.backup.packs
  for (const root of scene.roots) rmSync(join(root, packKey(CLUSTER, pack)))
  await assert.rejects(restore(scene), (error) => isFailure(error, 'TM1602'))
})
