/**
 * Builds Tidemark as its users get it, compiled, and lays it out as an installed package:
 * measured is what is shipped, not the sources under type stripping.
 */
import { chmodSync, cpSync, mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runChecked } from '../test/harness/run-program.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** The program of the package that it lays out in `directory`. */
export async function installPackage(directory: string): Promise<string> {
  await runChecked(process.execPath, [join(ROOT, 'scripts/build.ts')])
  mkdirSync(directory, { recursive: true })
  chmodSync(directory, 0o755)
  for (const name of ['bin', 'dist', 'package.json']) {
    cpSync(join(ROOT, name), join(directory, name), { recursive: true })
  }
  const build = join(ROOT, 'build')
  const isKernel = (path: string): boolean => path === build || path.endsWith('.wasm')
  cpSync(build, join(directory, 'build'), { recursive: true, filter: isKernel })
  for (const name of ['node_modules', '.tools']) {
    symlinkSync(join(ROOT, name), join(directory, name))
  }
  return join(directory, 'bin/tidemark')
}
