/**
 * The sources as few JavaScript files: loading 200 modules and those of the libraries took 50 ms
 * of most commands (CONTRIBUTING.md).
 *
 * Everything lies in one directory two below the root of the package, as src/cli/ and
 * src/postgres/ do: what is found by a path relative to a module is found from both.
 */
import { build, type Plugin } from 'esbuild'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ROOT } from './run-child.ts'

/** What is started by its path: the program and its worker threads. */
const ENTRIES = [
  'src/cli/main.ts',
  'src/backup/copy/copy-worker.ts',
  'src/archive/codec/wal-worker.ts',
  'src/events/pool/index-worker.ts',
  'src/recovery/file-restore/restore-worker.ts',
  'src/recovery/verify/verify-worker.ts',
]
/** CommonJS libraries ask for Node's own modules by require(). */
const REQUIRE = `import { createRequire as makeRequire } from 'node:module'
const require = makeRequire(import.meta.url)`

/** `new URL('./x.ts', import.meta.url)` names a file that lies beside the others here. */
const workers: Plugin = {
  name: 'workers',
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => ({
      loader: 'ts',
      contents: readFileSync(path, 'utf8').replace(
        /new URL\('(\.[^']*)\.ts', import\.meta\.url\)/g,
        (_, place: string) => {
          const name = basename(place)
          if (!ENTRIES.some((entry) => entry.endsWith(`/${name}.ts`))) {
            throw new Error(`${path}: ${name}.ts is no entry of the build`)
          }
          return `new URL('./${name}.js', import.meta.url)`
        },
      ),
    }))
  },
}

/** Gives the paths of all that went in. */
export async function bundle(directory: string): Promise<string[]> {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: Object.fromEntries(ENTRIES.map((path) => [basename(path, '.ts'), path])),
    outdir: directory,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    // pg's own bindings to libpq, which nobody installs with Tidemark.
    external: ['pg-native'],
    banner: { js: REQUIRE },
    plugins: [workers],
    metafile: true,
    logLevel: 'warning',
  })
  return Object.keys(metafile.inputs)
}

/** The licences of the libraries whose code is in the bundle. */
export function collectLicences(inputs: readonly string[]): string {
  const packages = new Set<string>()
  for (const input of inputs) {
    const [, name] = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input) ?? []
    if (name !== undefined) packages.add(name)
  }
  return [...packages]
    .sort()
    .map((name) => {
      const directory = join(ROOT, 'node_modules', name)
      const { version, license } = JSON.parse(
        readFileSync(join(directory, 'package.json'), 'utf8'),
      ) as { version: string; license: string }
      const file = readdirSync(directory).find((entry) => /^licen[cs]e/i.test(entry))
      const text = file === undefined ? '' : readFileSync(join(directory, file), 'utf8')
      return `${name} ${version} (${license})\n\n${text.trim()}\n`
    })
    .join(`\n${'-'.repeat(72)}\n\n`)
}
