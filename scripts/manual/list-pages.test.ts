import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { listPages } from './list-pages.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

for (const { path, content } of listPages(ROOT)) {
  test(`${path} is what its source says: node scripts/generate-manual.ts`, () => {
    assert.equal(readFileSync(join(ROOT, path), 'utf8'), content)
  })
}
