/**
 * `npm run build`: dist/ for the npm package. Node.js refuses to strip types under
 * node_modules, so the package ships JavaScript.
 */
import { chmodSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bundle, collectLicences } from './bundle.ts'
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
  const inputs = await bundle(join(INCOMING, 'cli'))
  writeFileSync(join(INCOMING, 'third-party-licences.txt'), collectLicences(inputs))
  rmSync(OUTPUT, { recursive: true, force: true })
  renameSync(INCOMING, OUTPUT)
  chmodSync(OUTPUT, 0o755)
  console.log(`build: dist/ has ${readdirSync(join(OUTPUT, 'cli')).length} files`)
}
