/**
 * backup_manifest of a restored directory: what pg_verifybackup checks it against. It
 * describes the files as restored.
 */
import { closeSync, fchownSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import {
  createManifestWriter,
  type ManifestWalRange,
  type ManifestWriter,
} from '../postgres/backup-manifest.ts'
import { cannotWrite } from './file-restore/file-handles.ts'
import type { Owner } from './file-restore/messages.ts'
import type { RestoredFile } from './restore-files.ts'

export interface RestoredManifestOptions {
  readonly dataDirectory: string
  readonly owner: Owner | undefined
  readonly version: 1 | 2
  readonly systemIdentifier: string
  /** Of all files: the moment of the restore. */
  readonly modifiedAt: Date
}

export class RestoredManifest {
  readonly #fd: number
  readonly #path: string
  readonly #modifiedAt: Date
  readonly #writer: ManifestWriter

  constructor(options: RestoredManifestOptions) {
    this.#path = join(options.dataDirectory, 'backup_manifest')
    this.#modifiedAt = options.modifiedAt
    try {
      this.#fd = openSync(this.#path, 'w', 0o600)
      if (options.owner !== undefined) fchownSync(this.#fd, options.owner.uid, options.owner.gid)
    } catch (error) {
      throw cannotWrite(this.#path, error)
    }
    const { version, systemIdentifier } = options
    const identity = { version, systemIdentifier: BigInt(systemIdentifier) }
    this.#writer = createManifestWriter(identity, (bytes) => {
      this.#write(bytes)
    })
  }

  add({ path, size, crc32c }: RestoredFile): void {
    const modifiedAt = this.#modifiedAt
    const checksum = { algorithm: 'CRC32C', value: crc32c } as const
    this.#writer.addFile({ path, sizeBytes: size, modifiedAt, checksum })
  }

  finish(range: ManifestWalRange): void {
    this.#writer.finish([range])
  }

  close(): void {
    closeSync(this.#fd)
  }

  #write(bytes: Uint8Array): void {
    try {
      for (let written = 0; written < bytes.length; ) {
        written += writeSync(this.#fd, bytes, written)
      }
    } catch (error) {
      throw cannotWrite(this.#path, error)
    }
  }
}
