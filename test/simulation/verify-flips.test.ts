/** No change of a single bit, anywhere in a repository, stays unseen. */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import fc from 'fast-check'
import { isFailure } from '../../src/base/failure.ts'
import { decodeEnvelope } from '../../src/repository/envelope.ts'
import { REPOSITORY_KEY } from '../../src/repository/keys.ts'
import { makeRepository, type SmallRepository, verifyObjects } from './verify-repository.ts'

let repository: SmallRepository

before(async () => {
  repository = await makeRepository()
})

/** Nothing depends on these members, and no hash covers them. */
const UNPROVABLE = ['repositoryId', 'createdAt']

/** Is the change one that no reader can see? */
function isHarmless(key: string, before: Uint8Array, after: Uint8Array): boolean {
  try {
    if (key.endsWith('.record') || key.endsWith('.writer')) {
      // A few bits of zstd can be written in two ways.
      const kind = key.endsWith('.record') ? 'RECD' : 'WRIT'
      const [one, other] = [before, after].map((bytes) => decodeEnvelope(key, kind, bytes))
      return Buffer.compare(one as Uint8Array, other as Uint8Array) === 0
    }
    if (key !== REPOSITORY_KEY && !key.includes('/systems/')) return false
    const [one, other] = [before, after].map(
      (bytes) => JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>,
    ) as [Record<string, unknown>, Record<string, unknown>]
    for (const name of UNPROVABLE) delete one[name]
    for (const name of UNPROVABLE) delete other[name]
    return JSON.stringify(one) === JSON.stringify(other)
  } catch {
    return false
  }
}

async function assertFound(key: string, at: number, bit: number): Promise<void> {
  const objects = new Map(repository.objects)
  const before = objects.get(key) as Uint8Array
  const after = new Uint8Array(before)
  after[at] = (after[at] as number) ^ (1 << bit)
  objects.set(key, after)
  if (isHarmless(key, before, after)) return
  const where = `byte ${at} of ${key}, bit ${bit}`
  try {
    const { findings } = await verifyObjects(objects)
    const found = findings.map((finding) => finding.key)
    assert.ok(found.includes(key), `${where}: ${found.join()}`)
  } catch (error) {
    // Another format, or no repository at all: nothing can be looked at, and it is said.
    if (key !== REPOSITORY_KEY || !isFailure(error)) throw error
    assert.match(error.code, /^TM150[347]$/, where)
  }
}

test('any single flipped bit of any object is found, and its object named', async () => {
  const objects = [...repository.objects]
  const total = objects.reduce((sum, [, { length }]) => sum + length, 0)
  const place = fc.integer({ min: 0, max: total - 1 })
  await fc.assert(
    fc.asyncProperty(place, fc.integer({ min: 0, max: 7 }), async (position, bit) => {
      let at = position
      for (const [key, { length }] of objects) {
        if (at < length) return await assertFound(key, at, bit)
        at -= length
      }
    }),
    { numRuns: 300 },
  )
})

test('a bit flipped at the beginning, middle and end of every object is found', async () => {
  for (const [key, { length }] of repository.objects) {
    for (const at of [0, 5, length >> 1, length - 60, length - 1]) {
      if (at >= 0) await assertFound(key, at, at % 8)
    }
  }
})
