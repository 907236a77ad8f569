/**
 * `mkdir -p`, from the outside in. Not mkdir({ recursive: true }): below /proc, and wherever
 * else a directory refuses new ones with ENOENT, that one never ends.
 */
import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'

/** Returns the directories that were made, outermost first. Throws what mkdir(2) says. */
export function makeDirectories(path: string, mode: number): string[] {
  const missing: string[] = []
  for (let at = path; !existsSync(at) && at !== dirname(at); at = dirname(at)) missing.unshift(at)
  return missing.filter((directory) => {
    try {
      mkdirSync(directory, { mode })
      return true
    } catch (error) {
      // Another process was faster; what else lies there is told by the next step.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      return false
    }
  })
}
