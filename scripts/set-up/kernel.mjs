/** The WASM page kernel: AssemblyScript in src/postgres/kernel/assembly to build/. */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { ROOT, SetUpError, hashOf, lastLines, readText, run, runtimeProgram } from './step.mjs'

const SOURCES = join(ROOT, 'src/postgres/kernel/assembly')
const MAIN = 'src/postgres/kernel/assembly/page-kernel.ts'
const OUTPUT = join(ROOT, 'build/page-kernel.wasm')
const STAMP = join(ROOT, 'build/page-kernel.stamp')
const FLAGS = ['--runtime', 'stub', '--enable', 'simd', '-O3', '--noAssert', '--importMemory']

/** Hash of everything that decides the output. */
function inputs() {
  const lock = readFileSync(join(ROOT, 'package-lock.json'), 'utf8')
  const compiler = /"node_modules\/assemblyscript": \{\s*"version": "([^"]+)"/.exec(lock)?.[1] ?? ''
  const names = readdirSync(SOURCES)
    .filter((name) => name.endsWith('.ts'))
    .sort()
  const texts = names.flatMap((name) => [name, readFileSync(join(SOURCES, name), 'utf8')])
  return hashOf(compiler, FLAGS.join(' '), ...texts)
}

/** @type {import('./step.mjs').Step} */
export const kernel = {
  title: 'WASM page kernel',
  isReady: () => existsSync(OUTPUT) && readText(STAMP) === inputs(),
  async install() {
    const wanted = inputs()
    mkdirSync(join(ROOT, 'build'), { recursive: true })
    const compiler = join(ROOT, 'node_modules/assemblyscript/bin/asc.js')
    const args = [compiler, MAIN, '-o', 'build/page-kernel.new.wasm', ...FLAGS]
    const { status, output } = await run(runtimeProgram(), args)
    if (status !== 0) {
      throw new SetUpError('the page kernel does not compile', lastLines(output), `mend ${MAIN}`)
    }
    renameSync(join(ROOT, 'build/page-kernel.new.wasm'), OUTPUT)
    writeFileSync(STAMP, wanted)
  },
}
