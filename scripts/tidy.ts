/**
 * `npm run tidy`: checks the house style that a compiler cannot (scripts/tidy/). Prints one
 * line per finding, as `path:line rule: message`; status 1 when there is any.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { judgeFile } from './tidy/judge-file.ts'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const FOLDERS = ['src', 'test', 'scripts', 'bench', 'bin']

function sourceFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|mts|cts|mjs|cjs|js)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length))
    .filter((path) => !path.startsWith('test/fixtures/'))
    .sort()
}

const paths = FOLDERS.flatMap(sourceFiles)
const findings = paths.flatMap((path) => judgeFile(path, readFileSync(join(ROOT, path), 'utf8')))
for (const { path, line, rule, message } of findings) {
  console.log(`${path}:${line} ${rule}: ${message}`)
}
console.log(`tidy: ${paths.length} files, ${findings.length} findings`)
process.exitCode = findings.length === 0 ? 0 : 1
