/** What is wrong with a node and what to do about it, from its conditions: one line each, none for a healthy one. Pure. */
import type { Condition } from '../../api/meta.ts'
import type { Node } from '../../api/node.ts'
import { formatBytes, parseBytes } from '../../lib/quantity.ts'

/** True says that something is wrong; of Ready, anything but True does. */
const isWrong = ({ type, status }: Condition): boolean =>
  type === 'Ready' ? status !== 'True' : type !== 'Drained' && type !== 'Draining' && status === 'True'

/** By type of condition, or by type and reason. */
const remedies: Readonly<Record<string, (name: string) => string>> = {
  'Ready/NodeSilent': (name) =>
    `is the Mac on, awake and on the network, and does its agent run (\`mctl agent status\` there)? Its log says why it does not reach the server. If the Mac is gone for good: \`mctl delete node ${name}\``,
  'Ready/NotSynced': () =>
    'wait some seconds: the agent stops what it should not run. If it stays so, the agent’s log says what does not end',
  Ready: (name) => `the agent’s log on ${name} says why`,
  MemoryPressure: (name) =>
    `end what else uses memory on the Mac, or keep more back for it: \`mctl patch node ${name} -p '{"spec":{"systemReserve":"6Gi"}}'\``,
  DiskPressure: () =>
    'make room on the volume of the models folder (`mctl describe` lists under Models what lies there); fetches then go on by themselves',
  ThermalPressure: () => 'let the Mac breathe: it is slower until it is cooler, nothing is moved',
  Overcommitted: (name) =>
    `nothing new is placed here. Lower systemReserve to what it was, or move groups away: \`mctl drain ${name}\``,
  EngineMissing: () => '`npm run setup` on that Mac makes the engine that is missing',
}

export function whatIsWrong({ metadata, spec, status }: Node): readonly string[] {
  const { name } = metadata
  const conditions = status?.conditions ?? []
  if (!conditions.some(({ type }) => type === 'Ready'))
    return [`it was never heard of: start its agent, \`mctl agent --name ${name}\` on that Mac`]
  const lines = conditions.filter(isWrong).map((condition) => {
    const { type, reason, message, lastTransitionTime } = condition
    const remedy = remedies[`${type}/${reason}`] ?? remedies[type]
    const said = `${type}=${condition.status} since ${lastTransitionTime} (${reason}): ${message}`
    return remedy === undefined ? said : `${said}. To do: ${remedy(name)}`
  })
  const [bound, allocatable] = [status?.bound?.memory, status?.allocatable?.memory].map((q) => parseBytes(q ?? '0'))
  if (
    bound !== undefined &&
    allocatable !== undefined &&
    bound > allocatable &&
    !conditions.some((c) => c.type === 'Overcommitted')
  )
    lines.push(`${formatBytes(bound)} are bound, ${formatBytes(allocatable)} may be`)
  if (spec.unschedulable && spec.drain === undefined)
    lines.push(`it is cordoned: nothing new is placed here until \`mctl uncordon ${name}\``)
  return lines
}
