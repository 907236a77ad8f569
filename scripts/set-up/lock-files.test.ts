import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ROOT } from '../run-child.ts'

interface Lock {
  readonly packages: Readonly<Record<string, LockEntry>>
}

interface LockEntry {
  readonly version?: string
  readonly integrity?: string
  readonly optional?: boolean
  readonly os?: readonly string[]
  readonly libc?: readonly string[]
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const LOCKS = ['.', 'scripts/set-up/runtime', 'scripts/set-up/postgres']

for (const folder of [...LOCKS, 'scripts/set-up/postgres-tools']) {
  const path = join(ROOT, folder, 'package-lock.json')
  const { packages } = JSON.parse(readFileSync(path, 'utf8')) as Lock

  // A registry mirror that lacks a platform makes npm leave its package out of the lock,
  // and then `npm ci` refuses the lock wherever the registry does have it.
  test(`${folder}/package-lock.json names the packages of every platform`, () => {
    const wanted = Object.values(packages).flatMap((entry) =>
      Object.keys(entry.optionalDependencies ?? {}),
    )
    const missing = wanted.filter((name) => packages[`node_modules/${name}`] === undefined)
    assert.deepEqual(missing, [])
  })

  test(`${folder}/package-lock.json has the integrity of all that Debian installs`, () => {
    const unproved = Object.entries(packages).filter(([place, entry]) => {
      const isElsewhere = entry.os !== undefined && !entry.os.includes('linux')
      const isMusl = entry.libc?.includes('musl') === true
      return place !== '' && entry.integrity === undefined && !isElsewhere && !isMusl
    })
    assert.deepEqual(
      unproved.map(([place]) => place),
      [],
    )
  })
}
