/**
 * `npm run build`: dist/ for the npm package. Node.js refuses to strip types under
 * node_modules, so the package ships JavaScript; `dist/` lies where `src/` lies, and so
 * `build/page-kernel.wasm` is found by the same relative path from both.
 */
import { chmodSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT, runNode } from './run-child.ts'

const OUTPUT = join(ROOT, 'dist')
const INCOMING = join(ROOT, 'build/dist-incoming')

rmSync(INCOMING, { recursive: true, force: true })
const compiler = join(ROOT, 'node_modules/typescript/bin/tsc')
const { status } = await runNode([compiler, '-p', join(ROOT, 'tsconfig.build.json')], 'show')
if (status !== 0) {
  console.error('build: the sources do not compile; dist/ is as it was')
  process.exitCode = 1
} else {
  const scripts = readdirSync(INCOMING, { recursive: true, withFileTypes: true })
  for (const entry of scripts) {
    if (entry.isFile() && entry.name.endsWith('.js')) pointWorkersAtJavaScript(entry)
  }
  rmSync(OUTPUT, { recursive: true, force: true })
  renameSync(INCOMING, OUTPUT)
  chmodSync(OUTPUT, 0o755)
  console.log(`build: dist/ has ${scripts.length} files`)
}

/** tsc rewrites the extension in imports, but not in `new URL('./x.ts', import.meta.url)`. */
function pointWorkersAtJavaScript(entry: { parentPath: string; name: string }): void {
  const path = join(entry.parentPath, entry.name)
  const text = readFileSync(path, 'utf8')
  const url = /(new URL\(\s*['"]\.[^'"]*)\.ts(['"],\s*import\.meta\.url)/g
  const changed = text.replace(url, '$1.js$2')
  if (changed !== text) writeFileSync(path, changed)
}
