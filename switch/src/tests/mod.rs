mod frames;
mod network;
