/**
 * What a key may look like. Checked by every driver before it touches anything, so that no
 * key can name a place outside of its repository or the driver's own working files.
 */

/** The object that makes a place a repository (docs/design/repository-format.md, 2). */
export const MARKER_KEY = 'tidemark.repository'

const SEGMENT = '[A-Za-z0-9_-][A-Za-z0-9._-]*'
const KEY = new RegExp(`^${SEGMENT}(?:/${SEGMENT})*$`)
const PREFIX = new RegExp(`^(?:${SEGMENT}/)*(?:${SEGMENT})?$`)
const NAME = new RegExp(`^${SEGMENT}$`)

/** Most bytes of a segment (NAME_MAX of Linux file systems) and of a whole key. */
const MAX_SEGMENT_LENGTH = 255
const MAX_KEY_LENGTH = 1024

export function isStorageKey(key: string): boolean {
  if (key.length > MAX_KEY_LENGTH || !KEY.test(key)) return false
  return key.split('/').every((segment) => segment.length <= MAX_SEGMENT_LENGTH)
}

/** Whether a directory entry can be part of a key; others are none of ours. */
export function isKeySegment(name: string): boolean {
  return name.length <= MAX_SEGMENT_LENGTH && NAME.test(name)
}

/** A key that is not one is a defect of the caller, not a situation of the user. */
export function assertStorageKey(key: string): void {
  if (!isStorageKey(key)) throw new Error(`not a storage key: ${JSON.stringify(key)}`)
}

export function assertStoragePrefix(prefix: string): void {
  if (prefix.length > MAX_KEY_LENGTH || !PREFIX.test(prefix)) {
    throw new Error(`not a prefix of storage keys: ${JSON.stringify(prefix)}`)
  }
}

/** A listing may begin anywhere behind its prefix. */
export function assertListing(prefix: string, after: string | undefined): void {
  assertStoragePrefix(prefix)
  if (after !== undefined && !after.startsWith(prefix)) {
    throw new Error(`${JSON.stringify(after)} does not start with ${JSON.stringify(prefix)}`)
  }
}

/** Key order is byte order; keys are ASCII, so that of UTF-16 units is the same. */
export function compareKeys(left: string, right: string): number {
  if (left === right) return 0
  return left < right ? -1 : 1
}
