/** The page kernel against pg_checksums, file by file and block by block. */
import assert from 'node:assert/strict'
import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { runProgram } from '../../test/harness/run-program.ts'
import { readControlFile } from './control-file.ts'
import {
  createPageKernel,
  PAGE_BAD_CHECKSUM,
  PAGE_BYTES,
  PAGE_NEW,
  PAGE_ZERO,
} from './page-kernel.ts'
import { pageChecksum } from './page-reference.ts'
import { parseRelationPath } from './relation-path.ts'

const PAGES = 64
const SEGMENT_BLOCKS = 131072
const kernel = createPageKernel({ readBufferBytes: PAGES * PAGE_BYTES })

test('the kernel finds the blocks that pg_checksums finds', async () => {
  await using server = await startPostgres()
  await server.sql(`
    CREATE TABLE t AS SELECT n, repeat('x', 200) AS pad FROM generate_series(1, 20000) n;
    CREATE INDEX ON t (n)`)
  await server.sql('VACUUM t')
  const [row] = await server.sql<{ path: string }>("SELECT pg_relation_filepath('t') AS path")
  const table = join(server.dataDirectory, row?.path ?? '')
  await server.stop()
  assert.deepEqual(await ours(server), [])
  assert.deepEqual(await theirs(server), [])

  flip(table, 3 * PAGE_BYTES + 8191)
  flip(table, 5 * PAGE_BYTES + 8)
  flip(`${table}_vm`, 100)
  // A new page is not checked, whatever else it holds; the page after it is.
  const odd = Buffer.alloc(3 * PAGE_BYTES)
  odd.fill(0x77, PAGE_BYTES, PAGE_BYTES + 12)
  odd.fill(0x33, 2 * PAGE_BYTES)
  writeFileSync(join(table, '../99999'), odd)
  // Block numbers go on across segments.
  writeFileSync(join(table, '../99998.2'), makePages(2 * SEGMENT_BLOCKS, 2 * SEGMENT_BLOCKS + 7))
  const found = await ours(server)
  assert.deepEqual(found, await theirs(server))
  const name = (row?.path ?? '').split('/').at(-1)
  assert.deepEqual(
    found.map((line) => line.slice(line.lastIndexOf('/') + 1)),
    [`${name} 3`, `${name} 5`, `${name}_vm 0`, '99998.2 262145', '99999 2'],
  )
})

test('a cluster without checksums has no bad pages, but zero and new ones', async () => {
  await using server = await startPostgres({ checksums: false })
  await server.stop()
  const { control } = await readControlFile(server.dataDirectory)
  assert.equal(control.dataChecksumVersion, 0)
  const directory = join(server.dataDirectory, 'base/1')
  const file = readdirSync(directory).find((name) => name === '1259') as string
  const handle = openSync(join(directory, file), 'r')
  const pages = readSync(handle, kernel.readBuffer, 0, PAGES * PAGE_BYTES, 0) / PAGE_BYTES
  closeSync(handle)
  kernel.readBuffer.fill(0, 0, PAGE_BYTES)
  const scan = kernel.scanPages(0, pages, 0, { checksums: false })
  assert.equal(scan.flags[0], PAGE_ZERO | PAGE_NEW)
  assert.equal(scan.anyFlags & PAGE_BAD_CHECKSUM, 0)
  const checked = kernel.scanPages(0, pages, 0, { checksums: true })
  assert.notEqual(checked.anyFlags & PAGE_BAD_CHECKSUM, 0)
})

/** Two pages, each with the checksum that is right for the block of its number here. */
function makePages(...blocks: number[]): Buffer {
  return Buffer.concat(
    blocks.map((block) => {
      const page = Buffer.alloc(PAGE_BYTES, 0x41)
      page.writeUInt16LE(pageChecksum(page, block), 8)
      return page
    }),
  )
}

function flip(path: string, at: number): void {
  const handle = openSync(path, 'r+')
  const byte = Buffer.alloc(1)
  readSync(handle, byte, 0, 1, at)
  byte[0] = (byte[0] as number) ^ 4
  writeSync(handle, byte, 0, 1, at)
  closeSync(handle)
}

/** `path block` of every bad page of every relation file, sorted. */
async function ours(server: PostgresServer): Promise<string[]> {
  const root = server.dataDirectory
  const names = readdirSync(root, { recursive: true }) as string[]
  const bad = names.flatMap((name) => {
    const relation = parseRelationPath(name)
    if (relation === undefined) return []
    return badBlocks(join(root, name), relation.segment).map((block) => `${name} ${block}`)
  })
  return bad.sort()
}

function badBlocks(path: string, segment: number): number[] {
  const handle = openSync(path, 'r')
  const { size } = fstatSync(handle)
  const bad: number[] = []
  for (let at = 0; at < size; at += PAGES * PAGE_BYTES) {
    const pages = readSync(handle, kernel.readBuffer, 0, PAGES * PAGE_BYTES, at) / PAGE_BYTES
    const first = segment * SEGMENT_BLOCKS + at / PAGE_BYTES
    bad.push(...kernel.verifyChecksums(0, pages, first))
    const { flags } = kernel.scanPages(0, pages, first, { checksums: true })
    const scanned = [...flags].flatMap((flag, index) =>
      (flag & PAGE_BAD_CHECKSUM) === 0 ? [] : [first + index],
    )
    assert.deepEqual(scanned, bad.slice(bad.length - scanned.length))
  }
  closeSync(handle)
  return bad
}

async function theirs(server: PostgresServer): Promise<string[]> {
  const tool = findTool('pg_checksums', server.major)
  assert.ok(tool !== undefined)
  const { stderr } = await runProgram(tool, ['--check', '-D', server.dataDirectory], {
    runAs: server.runAs,
    env: { LC_ALL: 'C' },
  })
  const lines = stderr.matchAll(/verification failed in file "(.*)", block ([0-9]+)/g)
  return [...lines]
    .map(([, file, block]) => {
      const path = file?.slice(server.dataDirectory.length + 1) ?? ''
      // It names the block within the file, though it computes with that of the relation.
      const segment = parseRelationPath(path)?.segment ?? 0
      return `${path} ${segment * SEGMENT_BLOCKS + Number(block)}`
    })
    .sort()
}
