/**
 * Gives back the memory in which the kernel keeps segments that replay is done with.
 *
 * Replay reads a segment once. What the kernel keeps of it pushes out pages of the database that
 * replay needs, and a virtual machine whose host takes back what is free pays for each page that
 * was never touched: there 16 MB of new file cost 45 ms, and 6 ms in memory that was given back a
 * moment ago. Node has no posix_fadvise(); dd has, and one shell starts it for all segments.
 *
 * Invariant: nothing is read or written, and nothing that goes wrong here fails anybody.
 */
import { type ChildProcess, spawn } from 'node:child_process'

/** GNU dd takes this for the whole file; one that does not know the flag fails, and that is all. */
const SCRIPT = 'while read -r name; do dd if="$name" iflag=nocache count=0; done'

export class CacheDropper {
  readonly #directory: string
  #shell: ChildProcess | undefined

  constructor(directory: string) {
    this.#directory = directory
  }

  /** `name`: of a segment in the directory. What is not on the disk yet stays. */
  drop(name: string): void {
    try {
      this.#shell ??= this.#start()
      this.#shell.stdin?.write(`${name}\n`)
    } catch {
      // No file or memory left for a process.
    }
  }

  #start(): ChildProcess {
    const shell = spawn('sh', ['-c', SCRIPT], {
      cwd: this.#directory,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    shell.on('error', () => {})
    shell.stdin?.on('error', () => {})
    shell.unref()
    return shell
  }

  /** It ends when it has done what it was told. */
  close(): void {
    this.#shell?.stdin?.end()
  }
}
