/**
 * System errors of the file system, put into the words of a failure.
 */
import { statfsSync } from 'node:fs'
import { describeSystemError, Failure } from '../../base/failure.ts'

export interface FailedOperation {
  /** What was tried: `write clusters/main/…`. */
  readonly doing: string
  /** The file or directory that the system call named. */
  readonly path: string
  readonly root: string
  readonly url: string
  /** Bytes that were still to be written. */
  readonly neededBytes?: number
}

export function errorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException | undefined)?.code ?? ''
}

/** A failure passes as it is, everything that is no system error as the defect it is. */
export function translateSystemError(error: unknown, operation: FailedOperation): unknown {
  const code = errorCode(error)
  if (error instanceof Failure || !/^E[A-Z0-9]+$/.test(code)) return error
  if (code === 'ENOSPC' || code === 'EDQUOT') return fullFailure(error, operation)
  return new Failure('TM1501', {
    message: `cannot ${operation.doing} in ${operation.url}`,
    because: `${operation.path}: ${REASONS[code] ?? describeSystemError(error)}`,
    fix: fixFor(code, operation),
    details: { path: operation.path, systemError: code },
    cause: error,
  })
}

const REASONS: Readonly<Record<string, string>> = {
  EFBIG: 'the file is larger than the file system or the limit of this process allows',
  ELOOP: 'it is a symbolic link',
  ENOTCONN: 'the file system is not connected',
  ESTALE: 'the network file system does not know the file any more',
  EXDEV: 'it is on another file system than the root of the repository',
}

function fixFor(code: string, { path, root }: FailedOperation): string {
  const uid = process.geteuid?.() ?? '?'
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return `run the command as the owner of ${root}, or give uid ${uid} access to ${path}`
    case 'EROFS':
      return `mount the file system of ${root} read-write`
    case 'EMFILE':
      return 'raise the limit of open files (ulimit -n) and run the command again'
    case 'EFBIG':
      return 'lift the file size limit (ulimit -f), or move the repository to another file system'
    case 'ELOOP':
      return `replace the symbolic link ${path} by a directory or file of its own`
    case 'EIO':
      return `check the disk of ${root} and the kernel's log, then run the command again`
    case 'ESTALE':
    case 'ENOTCONN':
    case 'ETIMEDOUT':
    case 'EHOSTDOWN':
      return `mount the file system of ${root} again, then run the command again`
    default:
      return `check the file system of ${root}, then run the command again`
  }
}

function fullFailure(error: unknown, operation: FailedOperation): Failure {
  const { doing, url, root, neededBytes } = operation
  const free = freeBytesOf(root)
  const quota = errorCode(error) === 'EDQUOT'
  const facts = [
    quota ? 'the disk quota is exceeded' : 'no space is left on the device',
    free === undefined ? undefined : `${free} bytes are free`,
    neededBytes === undefined ? undefined : `${neededBytes} more were needed`,
  ]
  const room = `make room on the file system of ${root}${quota ? ' or raise the quota' : ''}`
  return new Failure('TM1506', {
    message: `cannot ${doing} in ${url}`,
    because: facts.filter((fact) => fact !== undefined).join(', '),
    fix: `${room}, then run the command again`,
    details: {
      path: operation.path,
      ...(free === undefined ? {} : { freeBytes: free }),
      ...(neededBytes === undefined ? {} : { neededBytes }),
    },
    cause: error,
  })
}

function freeBytesOf(root: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(root)
    return bavail * bsize
  } catch {
    return undefined
  }
}
