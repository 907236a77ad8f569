/** The secret that opens a repository: what counts as one, and commands that do not end. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { removeDirectory, temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { isFailure } from '../base/failure.ts'
import type { EncryptionConfiguration } from './configuration.ts'
import { resolveEncryption } from './resolve-encryption.ts'

const KEY = 'f3b1'.repeat(16)
const ENV = { PATH: process.env['PATH'] ?? '' }
const isUnusable = (error: unknown): boolean => isFailure(error, 'TM1523') && error.fix !== ''

async function resolve(from: EncryptionConfiguration, timeoutMs?: number): Promise<string> {
  const secret = await resolveEncryption(from, 'repositories.local.encryption', ENV, timeoutMs)
  return Buffer.from(secret.bytes).toString('latin1')
}

async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory(undefined, 'tidemark-secret-')
  try {
    await use(directory)
  } finally {
    await removeDirectory(directory)
  }
}

/** What the command has left behind, by the id that it wrote. */
function end(pidFile: string): void {
  process.kill(Number(readFileSync(pidFile, 'utf8')))
}

test('what a key command leaves behind is not waited for', { timeout: 60_000 }, async () => {
  await withDirectory(async (directory) => {
    const pid = join(directory, 'pid')
    const keyCommand = `sleep 600 & echo $! > ${pid}; echo ${KEY}`
    assert.equal(await resolve({ keyCommand }), KEY)
    end(pid)
  })
})

test('a key command that does not end is ended', { timeout: 60_000 }, async () => {
  await withDirectory(async (directory) => {
    const pid = join(directory, 'pid')
    const keyCommand = `trap '' TERM; sleep 600 & echo $! > ${pid}; wait; echo ${KEY}`
    await assert.rejects(resolve({ keyCommand }, 500), (error) => {
      return isUnusable(error) && /ended by SIG/.test((error as { because?: string }).because ?? '')
    })
    end(pid)
  })
})

test('what a key command is made of is in no message', async () => {
  const keyCommand = 'TOKEN=hunter2 false'
  await assert.rejects(resolve({ keyCommand }), (error) => {
    return isUnusable(error) && !JSON.stringify([error, String(error)]).includes('hunter2')
  })
})

test('a key has 32 bytes to 64 KiB, wherever it comes from', async () => {
  await withDirectory(async (directory) => {
    const keyFile = join(directory, 'key')
    for (const [size, isKey] of [
      [31, false],
      [32, true],
      [65_536, true],
      [65_537, false],
      [200_000, false],
    ] as const) {
      writeFileSync(keyFile, 'k'.repeat(size))
      for (const from of [{ keyFile }, { keyCommand: `cat ${keyFile}` }]) {
        if (isKey) assert.equal((await resolve(from)).length, size)
        else await assert.rejects(resolve(from), isUnusable, `${size}`)
      }
    }
  })
})

test('a passphrase has 8 characters', async () => {
  await assert.rejects(resolve({ passphrase: '1234567' }), isUnusable)
  await assert.rejects(resolve({ passphrase: '\u{1f40b}'.repeat(7) }), isUnusable)
  assert.equal(await resolve({ passphrase: '12345678' }), '12345678')
})

test('the last line break of text is none of the key, and of other bytes it is', async () => {
  await withDirectory(async (directory) => {
    const keyFile = join(directory, 'key')
    const binary = `${'\x01'.repeat(40)}\n`
    for (const [content, key] of [
      [`${KEY}\n`, KEY],
      [`${KEY}\r\n`, KEY],
      [`${KEY}\n\n`, `${KEY}\n\n`],
      [binary, binary],
    ] as const) {
      writeFileSync(keyFile, content, 'latin1')
      assert.equal(await resolve({ keyFile }), key)
      assert.equal(await resolve({ keyCommand: `cat ${keyFile}` }), key)
    }
  })
})
