/**
 * Proves that the leaves which were read are the map of their file. The hashes of packs say
 * that each leaf is as it was written; only the digest in the file list says that it is a
 * leaf of this file, in this place. Pure.
 */
import { createHash, hash } from 'node:crypto'
import { Failure } from '../../base/failure.ts'
import type { PagesEntry } from '../../repository/backup-record.ts'
import { PAGE_BYTES } from '../../repository/pack-format.ts'
import { LEAF_PAGES, type Leaf } from '../../repository/page-map.ts'

/** TM1218 when they are not. */
export function proveMap(entry: PagesEntry, leaves: readonly Leaf[]): void {
  const { path, size, digest } = entry
  const found = createHash('sha256')
  let pages = 0
  for (const { fingerprints, pageCount } of leaves) {
    if (pages % LEAF_PAGES !== 0) throw otherMap(path, `a leaf before page ${pages} is not full`)
    found.update(hash('sha256', fingerprints, 'buffer'))
    pages += pageCount
  }
  if (pages * PAGE_BYTES !== size) throw otherMap(path, `it has ${pages} pages`)
  if (found.digest('hex') !== digest) throw otherMap(path, 'its digest is not the one written down')
}

function otherMap(path: string, because: string): Failure {
  return new Failure('TM1218', {
    message: `the page map of ${path} is not the one of the file list`,
    because,
    fix: 'restore from another backup or repository, and keep this one for inspection',
    details: { path },
  })
}
