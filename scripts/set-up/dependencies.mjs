/** npm dependencies of the checkout. */
import { join } from 'node:path'
import { ROOT, npmCi, readJson } from './step.mjs'

/**
 * npm writes node_modules/.package-lock.json when an install is complete; node_modules is
 * in step when it names what package-lock.json wants. Packages for other platforms are
 * optional and absent.
 */
function isInStep() {
  const wanted = readJson(join(ROOT, 'package-lock.json')).packages
  const installed = readJson(join(ROOT, 'node_modules/.package-lock.json'))?.packages
  if (installed === undefined) return false
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true
    const found = installed[path]
    return found === undefined ? entry.optional === true : found.integrity === entry.integrity
  })
}

/** @type {import('./step.mjs').Step} */
export const dependencies = {
  title: 'npm dependencies',
  isReady: isInStep,
  install: () => npmCi(ROOT, 'the npm dependencies'),
}
