/** Writes the generated pages of docs/manual/; a test checks that they are current. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { listPages } from './manual/list-pages.ts'

const ROOT = fileURLToPath(new URL('../', import.meta.url))

for (const { path, content } of listPages(ROOT)) {
  writeFileSync(join(ROOT, path), content)
  console.log(path)
}
