/** `mctl agent install` brings the engine along: in which order, and what people read when that does not work. */
import { expect, test } from 'vitest'
import { thisMachine } from '../../../src/bin/machine.ts'
import type { Cli } from '../../../src/cli/context.ts'
import { runCommand } from '../../../src/cli/program.ts'
import type { MachineFacts } from '../../../src/cli/service/checks.ts'
import type { Machine } from '../../../src/cli/service/machine.ts'

const facts: MachineFacts = {
  platform: 'linux',
  arch: 'x64',
  memoryBytes: 2 ** 35,
  freeDiskBytes: 2 ** 40,
  modelsDir: '/h/models',
  isRoot: true,
  engine: { missing: 'no environment in /h/engines' },
  server: { address: '10.0.0.5:6480' },
  nowMs: 0,
}

async function install(engine: MachineFacts['engine'], exitOfEngine: number) {
  const done: string[] = []
  const said = { out: '', err: '' }
  const did = (what: string) => Promise.resolve(void done.push(what))
  const machine: Machine = {
    platform: 'linux',
    isRoot: true,
    program: ['node', 'mctl.js'],
    agentLog: '/log',
    agentPlace: () => Promise.resolve({ name: 'mini-2', home: '/h', dataDir: '/h/agent', modelsDir: '/h/models' }),
    facts: () => Promise.resolve({ ...facts, engine }),
    installEngine: ({ home }) => did(`engine in ${home}`).then(() => exitOfEngine),
    run: (argv) => did(argv.join(' ')).then(() => ({ code: 0, output: '' })),
    exists: () => false,
    write: (path) => did(`write ${path}`),
    remove: () => Promise.resolve(),
  }
  const cli: Partial<Record<keyof Cli, unknown>> = {
    terminal: { out: (text: string) => (said.out += text), err: (text: string) => (said.err += text) },
    env: { MCTL_TOKEN: 'K10', MCTL_CONFIG: '/nowhere/config.yaml' },
    signal: new AbortController().signal,
    version: '0.1.0',
    machine: () => Promise.resolve(machine),
    starters: { join: () => did('join') },
  }
  const exitCode = await runCommand(cli as Cli, ['agent', 'install', '--server', '10.0.0.5:6480', '--name', 'mini-2'])
  return { ...said, exitCode, done }
}

const service = [
  'join',
  'write /etc/systemd/system/mctl-agent.service',
  'systemctl daemon-reload',
  'systemctl enable --now mctl-agent.service',
]

test('a Mac without the engine gets it before it joins', async () => {
  const { err, exitCode, done } = await install(facts.engine, 0)
  expect([exitCode, done]).toEqual([0, ['engine in /h', ...service]])
  expect(err).toMatch(/^engine mlx is not on this machine yet: installing it into \/h \(some minutes\)\n\/etc/)
})

test('where it cannot be had the Mac joins all the same, and people read how to get it later', async () => {
  const { err, exitCode, done } = await install(facts.engine, 3)
  expect([exitCode, done]).toEqual([0, ['engine in /h', ...service]])
  expect(err).toContain(
    'engine mlx was not installed (exit code 3): the node joins without it. Later: npm run setup, in the checkout of mctl on this machine; the agent finds it at its next start\n',
  )
})

test('what is there is left as it is', async () => {
  expect((await install({ python: '/h/python' }, 0)).done).toEqual(service)
})

test('this very machine asks the setup of its checkout, which leaves alone what is there', async () => {
  const machine = thisMachine(process.env)
  const place = await machine.agentPlace({})
  expect(await machine.installEngine(place)).toBe(0)
  expect((await machine.facts(place, '127.0.0.1:1')).engine).toEqual({ python: expect.anything() as unknown })
})
