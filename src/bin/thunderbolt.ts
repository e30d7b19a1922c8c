/** Composition root of `mctl agent --configure-thunderbolt --dry-run` and `--undo-thunderbolt`. */
import { existsSync } from 'node:fs'
import { readCredentials } from '../../agent/credentials.ts'
import { UNDO_FAILED, checkThunderbolt, reportSetting, undoThunderbolt } from '../../agent/thunderbolt/command.ts'
import { cablesOf, thunderboltDoors } from '../../agent/thunderbolt/real.ts'
import { CliError } from '../cli/context.ts'
import type { ThunderboltFlags, ThunderboltReport } from '../cli/context.ts'
import { OpError, isOpError, messageOf } from '../lib/errors.ts'
import { connect } from '../rpc/grpcclient.ts'
import { lockDirectory } from '../store/lock.ts'

export async function lookAtLinks(flags: ThunderboltFlags): Promise<ThunderboltReport> {
  checkHere(flags.dryRun)
  try {
    return await (flags.verb === 'Undo' ? undo(flags) : wouldSet(flags))
  } catch (error) {
    throw error instanceof OpError && error.message.startsWith(UNDO_FAILED) ? new CliError(error.message) : error
  }
}

/** CliError, with what to do, where no agent could set addresses. No server has said it. */
export function checkHere(isDryRun: boolean): void {
  try {
    checkThunderbolt({ platform: process.platform, isRoot: process.getuid?.() === 0 }, isDryRun)
  } catch (error) {
    throw new CliError(messageOf(error))
  }
}

/** An agent that runs would set it again. */
async function undo({ dataDir, dryRun }: ThunderboltFlags): Promise<ThunderboltReport> {
  const doors = thunderboltDoors(dataDir)
  if (dryRun || !existsSync(dataDir)) return undoThunderbolt(doors, true)
  try {
    const lock = lockDirectory(dataDir)
    try {
      return await undoThunderbolt(doors, false)
    } finally {
      lock.release()
    }
  } catch (error) {
    if (!isOpError(error, 'Unavailable') || !error.message.includes('is using it')) throw error
    throw new CliError(
      'undo addresses of Thunderbolt links: an agent runs here, and may set them again. End it first (`mctl agent uninstall` if it is the service), and start it without --configure-thunderbolt afterwards',
    )
  }
}

async function wouldSet({ server, name, dataDir }: ThunderboltFlags): Promise<ThunderboltReport> {
  const credentials = readCredentials(dataDir)
  if (credentials === undefined)
    throw new CliError(
      `look at the cables of node "${name}": it has not joined a cluster (no credentials in ${dataDir}). The server gives out the addresses: join with a token first`,
    )
  const { authorityPem, certificatePem, keyPem, node, address } = credentials
  const client = connect(server, { tls: { authorityPem, own: { certificatePem, keyPem } } })
  try {
    const cables = await cablesOf(client, node)
    if (cables === undefined)
      throw new CliError(
        `look at the cables of node "${node}": its agent has not told the server of its ports yet. Start it first`,
      )
    return await reportSetting(thunderboltDoors(dataDir), cables, address)
  } finally {
    client.close()
  }
}
