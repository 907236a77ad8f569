/** How much memory the garbage of this process may take. */
import { setFlagsFromString } from 'node:v8'

/** Below it a process is small, whatever its garbage. */
const MANY_FILES = 65_536

/**
 * V8 lets a heap grow to a multiple of what lives in it before it collects. Of a cluster of a
 * million files that is half a gigabyte of garbage (bench/RESULTS.md), so with many files it
 * collects earlier. The flag is read at every collection and holds for all threads.
 */
export function keepHeapSmall(files: number): void {
  if (files > MANY_FILES) setFlagsFromString('--heap-growing-percent=25')
}
