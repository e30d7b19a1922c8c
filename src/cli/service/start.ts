/** The service of this machine, stopped and started: with new words when an older one runs already. */
import { sleep } from '../../lib/clock.ts'
import { OpError } from '../../lib/errors.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import type { Machine } from './machine.ts'
import { LABEL, UNIT } from './units.ts'

const GONE_MS_MAX = 30_000
const POLL_MS = 500

/** `path` is the plist or unit that was just written. CliError with what launchd or systemd said. */
export async function startService(cli: Cli, machine: Machine, path: string): Promise<void> {
  if (machine.platform === 'darwin') {
    await unload(cli, machine)
    return must(machine, ['launchctl', 'bootstrap', 'system', path])
  }
  await must(machine, ['systemctl', 'daemon-reload'])
  await must(machine, ['systemctl', 'enable', UNIT])
  await must(machine, ['systemctl', 'restart', UNIT])
}

/** One that is not loaded is no reason to keep its file. */
export async function stopService(machine: Machine): Promise<void> {
  const stop = machine.platform === 'darwin' ? bootout : ['systemctl', 'disable', '--now', UNIT]
  await machine.run(stop)
}

const bootout = ['launchctl', 'bootout', `system/${LABEL}`]

/**
 * `bootout` returns before the label is free, and `bootstrap` of a label that is still there fails with "5: Input/output
 * error" (DeterminateSystems/nix-installer#1157, Opendray/opendray#211): so it is waited for.
 */
async function unload({ clock, signal }: Cli, machine: Machine): Promise<void> {
  const { code } = await machine.run(bootout)
  if (code !== 0) return
  const startMs = clock.monotonicMs()
  while ((await machine.run(['launchctl', 'print', `system/${LABEL}`])).code === 0) {
    if (clock.monotonicMs() - startMs > GONE_MS_MAX)
      throw new CliError(`start the service: the old one has not ended after ${GONE_MS_MAX / 1000} s`)
    await sleep(clock, POLL_MS, signal)
    if (signal.aborted) throw new OpError('Cancelled', 'start the service: called off while the old one ended')
  }
}

async function must(machine: Machine, argv: readonly string[]): Promise<void> {
  const { code, output } = await machine.run(argv)
  if (code !== 0) throw new CliError(`start the service: ${argv.join(' ')} exited with ${code}: ${output.trim()}`)
}
