#!/usr/bin/env node
/**
 * The one entry: reads argv and env, makes the doors, runs one command. `mctl server` is this very process.
 * Commands that become long-lived load their roots only when asked for: `mctl get` must start quickly.
 */
import nodeModule from 'node:module'
import type { Starters } from '../cli/context.ts'
import { runCommand } from '../cli/program.ts'
import { systemClock, systemRandom } from '../lib/clock.ts'
import type { ClientTls } from '../rpc/tls.ts'
import { watchSignals } from './signals.ts'
import { makeTerminal } from './terminal.ts'
import { version } from './version.ts'

// From Node 22.1 on: what V8 made of our code at the last call is taken up again at the next.
;(nodeModule as { enableCompileCache?: () => unknown }).enableCompileCache?.()

const env = process.env
const signals = watchSignals()
const terminal = makeTerminal(signals.first)

const starters: Starters = {
  server: async (flags) => (await import('./server.ts')).runServer(flags, env, signals),
  gateway: async (flags) => (await import('./gateway.ts')).runGateway(flags, signals),
  agent: async (flags) => (await import('./agent.ts')).runAgentProcess(flags, env, signals),
  join: async (flags) => (await import('./agent.ts')).joinOnce(flags, signals),
  thunderbolt: async (flags) => (await import('./thunderbolt.ts')).lookAtLinks(flags),
  backup: async ({ folder, dataDir }) =>
    (await import('./backup.ts')).backupServer(dataDir ?? (await serverDir()), folder),
  restore: async ({ folder, dataDir }) =>
    (await import('./backup.ts')).restoreServer(folder, dataDir ?? (await serverDir())),
  dev: async (flags) => (await import('./dev.ts')).runDev(flags, env, signals, terminal),
}

const serverDir = async () => (await import('./server.ts')).serverDataDir(undefined, env)

async function main(): Promise<number> {
  const user = env['USER'] ?? 'anonymous'
  const cli = {
    terminal,
    env,
    cwd: process.cwd(),
    clock: systemClock,
    random: systemRandom,
    signal: signals.first,
    version,
    connect: async (address: string, tls?: ClientTls) =>
      (await import('../rpc/grpcclient.ts')).connect(address, tls === undefined ? { user } : { tls }),
    starters,
    machine: async () => (await import('./machine.ts')).thisMachine(env),
  }
  return runCommand(cli, process.argv.slice(2))
}

const exitCode = await main()
await terminal.flush()
process.exit(exitCode)
