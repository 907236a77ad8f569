/** The pinned Node.js in .tools/runtime, where the machine's own is older than 24. */
import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { SetUpError, TOOLS, installPackage, isRuntimeNeeded, readJson, readLock } from './step.mjs'

const NAME = `node-linux-${process.arch}`
const HOME = join(TOOLS, 'runtime')

function pinnedVersion() {
  return readLock('runtime').packages[`node_modules/${NAME}`]?.version
}

/** @type {import('./step.mjs').Step} */
export const runtime = {
  title: 'Node.js 24, the runtime of Tidemark',
  isReady() {
    if (!isRuntimeNeeded()) return true
    const installed = readJson(join(HOME, 'package.json'))?.version
    return installed === pinnedVersion() && existsSync(join(HOME, 'bin/node'))
  },
  async install() {
    if (pinnedVersion() === undefined) {
      throw new SetUpError(
        'no pinned Node.js for this machine',
        `set-up knows x64 and arm64, and this is ${process.arch}`,
        'install Node.js 24 or later',
      )
    }
    const directory = await installPackage('runtime', NAME)
    rmSync(HOME, { recursive: true, force: true })
    renameSync(directory, HOME)
  },
}
