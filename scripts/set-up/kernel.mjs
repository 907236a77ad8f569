/** The WASM kernels: AssemblyScript in src/postgres/kernel/assembly to build/. */
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
const NAMES = ['page-kernel', 'record-kernel']
const STAMP = join(ROOT, 'build/kernels.stamp')
const FEATURES = ['--enable', 'simd', '--enable', 'relaxed-simd']
const FLAGS = ['--runtime', 'stub', ...FEATURES, '-O3', '--noAssert', '--importMemory']

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

/** @param {string} name */
const outputOf = (name) => join(ROOT, 'build', `${name}.wasm`)

/** @param {string} name */
async function compile(name) {
  const source = `src/postgres/kernel/assembly/${name}.ts`
  const compiler = join(ROOT, 'node_modules/assemblyscript/bin/asc.js')
  const incoming = `build/${name}.new.wasm`
  const args = [compiler, source, '-o', incoming, ...FLAGS]
  const { status, output } = await run(runtimeProgram(), args)
  if (status !== 0) {
    throw new SetUpError(`${source} does not compile`, lastLines(output), `mend ${source}`)
  }
  renameSync(join(ROOT, incoming), outputOf(name))
}

/** @type {import('./step.mjs').Step} */
export const kernel = {
  title: 'WASM kernels',
  isReady: () => NAMES.every((name) => existsSync(outputOf(name))) && readText(STAMP) === inputs(),
  async install() {
    const wanted = inputs()
    mkdirSync(join(ROOT, 'build'), { recursive: true })
    for (const name of NAMES) await compile(name)
    writeFileSync(STAMP, wanted)
  },
}
