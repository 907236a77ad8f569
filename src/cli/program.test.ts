import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { buildProgram } from './program.ts'

const FIXTURES = fileURLToPath(new URL('../../test/fixtures/help/', import.meta.url))

function all(command: Command, name: string): [string, Command][] {
  const below = command.commands.flatMap((one) => all(one, `${name}-${one.name()}`))
  return [[name, command], ...below]
}

/** `UPDATE_GOLDEN=1 node --test src/cli/program.test.ts` writes them anew. */
const commands = all(
  buildProgram('0.0.0', async () => {}),
  'tidemark',
)
for (const [name, command] of commands) {
  test(`help of ${name.replaceAll('-', ' ')}`, () => {
    const help = command.configureHelp({ helpWidth: 80, showGlobalOptions: true }).helpInformation()
    const path = join(FIXTURES, `${name}.txt`)
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(path, help)
    assert.equal(help, readFileSync(path, 'utf8'))
  })
}

test('no help of a command that is gone', () => {
  const known = commands.map(([name]) => `${name}.txt`).sort()
  assert.deepEqual(readdirSync(FIXTURES).sort(), known)
})
