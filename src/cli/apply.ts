/** `mctl apply -f`: says what is wanted. Everything is read and checked first; one bad file changes nothing. */
import type { KindName } from '../api/kinds.ts'
import { qualifiedName } from '../api/kinds.ts'
import type { Manifest } from '../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../api/meta.ts'
import { kinds } from '../api/kinds.ts'
import type { Client, WriteReply } from '../rpc/messages.ts'
import type { Cli } from './context.ts'
import { CliError, withClient } from './context.ts'
import { readManifests, readValidManifests } from './files.ts'
import { render } from './get.ts'
import { wait } from './wait.ts'

export interface ApplyFlags {
  readonly server?: string
  readonly namespace?: string
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly dryRun?: string
  readonly forceConflicts?: boolean
  readonly fieldManager?: string
  readonly validate?: string
  readonly output?: string
  readonly wait?: boolean
  readonly timeout?: string
}

export async function apply(cli: Cli, flags: ApplyFlags): Promise<number> {
  if (flags.filename === undefined)
    throw new CliError('must specify -f FILE (a file, a directory, or - for standard input)')
  const dryRun = flags.dryRun ?? 'none'
  if (!['none', 'client', 'server'].includes(dryRun))
    throw new CliError(`invalid dry-run value (${dryRun}). Must be "none", "server", or "client"`)
  const read = flags.validate === 'ignore' || flags.validate === 'false' ? readManifests : readValidManifests
  const located = await read(cli, flags.filename, flags.recursive === true)
  const manifests = located.map(({ manifest }) => inNamespace(manifest, flags.namespace))
  if (dryRun === 'client') {
    for (const manifest of manifests) cli.terminal.out(`${nameOf(manifest)} valid (dry run)\n`)
    return 0
  }
  await withClient(cli, flags.server, async (client) => {
    for (const manifest of manifests) print(cli, await send(client, manifest, flags), flags, dryRun === 'server')
  })
  return flags.wait && dryRun === 'none' ? waitForReady(cli, manifests, flags) : 0
}

const nameOf = (manifest: Manifest) => qualifiedName(manifest.kind as KindName, manifest.metadata.name)

function inNamespace(manifest: Manifest, namespace: string | undefined): Manifest {
  if (!kinds[manifest.kind as KindName].namespaced) return manifest
  const own = manifest.metadata.namespace
  if (own !== undefined && namespace !== undefined && own !== namespace)
    throw new CliError(
      `the namespace from the provided object "${own}" does not match the namespace "${namespace}". You must pass '--namespace=${own}' to perform this operation.`,
    )
  return { ...manifest, metadata: { ...manifest.metadata, namespace: own ?? namespace ?? DEFAULT_NAMESPACE } }
}

function send(client: Client, object: Manifest, flags: ApplyFlags): Promise<WriteReply> {
  return client.apply({
    object,
    force: flags.forceConflicts === true,
    options: {
      dryRun: flags.dryRun === 'server',
      fieldManager: flags.fieldManager ?? 'mctl',
      fieldValidation: flags.validate === 'ignore' || flags.validate === 'false' ? 'Ignore' : 'Strict',
    },
  })
}

function print(cli: Cli, reply: WriteReply, flags: ApplyFlags, dryRun: boolean): void {
  const name = qualifiedName(reply.object.kind as KindName, reply.object.metadata.name)
  if (flags.output === 'name') cli.terminal.out(`${name}\n`)
  else if (flags.output !== undefined) cli.terminal.out(render(reply.object, flags.output))
  else cli.terminal.out(`${name} ${reply.result}${dryRun ? ' (server dry run)' : ''}\n`)
}

async function waitForReady(cli: Cli, manifests: readonly Manifest[], flags: ApplyFlags): Promise<number> {
  for (const manifest of manifests.filter((m) => m.kind === 'ModelDeployment')) {
    const namespace = manifest.metadata.namespace ?? DEFAULT_NAMESPACE
    await wait(cli, [`modeldeployment/${manifest.metadata.name}`], {
      for: 'condition=Ready',
      timeout: flags.timeout ?? '10m',
      namespace,
      ...(flags.server === undefined ? {} : { server: flags.server }),
    })
  }
  return 0
}
