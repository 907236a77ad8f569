/**
 * The program that the tests run: compiled, as its users get it, and laid out as an installed
 * package. It takes half the processor time of the sources under type stripping, and the
 * tests start thousands. A single test file that is run by itself runs the sources.
 */
import { cpSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { bundle } from './bundle.ts'
import { ROOT } from './run-child.ts'

/** Gives its path. Nothing is checked: that is the habit `tidy`. */
export async function makeTestProgram(): Promise<string> {
  const place = join(ROOT, 'build/program')
  const incoming = `${place}-incoming`
  rmSync(incoming, { recursive: true, force: true })
  mkdirSync(join(incoming, 'build'), { recursive: true })
  await bundle(join(incoming, 'dist/cli'))
  const kernels = readdirSync(join(ROOT, 'build')).filter((name) => name.endsWith('.wasm'))
  for (const name of ['bin', 'package.json', ...kernels.map((kernel) => `build/${kernel}`)]) {
    cpSync(join(ROOT, name), join(incoming, name), { recursive: true })
  }
  symlinkSync(join(ROOT, '.tools'), join(incoming, '.tools'))
  rmSync(place, { recursive: true, force: true })
  renameSync(incoming, place)
  return join(place, 'bin/tidemark')
}
