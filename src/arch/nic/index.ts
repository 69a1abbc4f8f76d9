/** The network adapter that we model: registers and descriptors. Layout only. */

export {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_WORDS,
  DescriptorWord,
  descriptorAddress,
  END_OF_PACKET,
  encodeDescriptor,
  LENGTH_MASK,
  QUEUE_STRIDE,
  QUEUES_OFFSET,
  QueueRegister,
  queueRegister,
  STATUS_DONE,
} from "./layout.js";
